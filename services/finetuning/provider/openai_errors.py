"""What the openai client raises and what a provider says, as our errors. The only such map."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import openai

from services.finetuning.domain.provider import error_code, one_line
from shared.errors import Missing, PerpetuneError, Rejected, Unavailable
from shared.serving_answers import read_retry_after

# Besides 5xx: time-out, conflict with what is under way, too early, too many.
_PASSING = frozenset({408, 409, 425, 429})
# The 5xx that does not pass.
_NOT_OFFERED = 501
_MAX_REST_SECONDS = 3600.0
_CLOSED = (
    "The provider '{provider}' trains no models any more for this account. Train an open base on "
    "this server instead: create the job with one of the models of GET /v1/models."
)


@contextmanager
def mapped_errors(provider: str) -> Iterator[None]:
    """
    Args:
        provider: Its name, for the messages.

    Raises:
        Unavailable: No answer, a late or unreadable one, or one that says to come again. Also where
            the key is not accepted: the operator can mend that while the job waits.
        Missing: The provider has no such thing.
        Rejected: It said no for good; code and message are its own, cleaned.
    """
    try:
        yield
    except openai.APIStatusError as error:
        raise _refusal(provider, error) from None
    except openai.APITimeoutError:
        raise _silent(provider, "did not answer in time", "provider_timeout") from None
    except (openai.APIConnectionError, httpx2.HTTPError) as error:
        kind = type(error.__cause__ or error).__name__
        raise _silent(provider, f"did not answer ({kind})", "provider_unreachable") from None
    except (openai.OpenAIError, ValueError):
        # Without its words: they quote the answer.
        raise _silent(provider, "gave an answer that cannot be read", "provider_garbled") from None


@contextmanager
def nothing_missing() -> Iterator[None]:
    """Around what makes something: a 404 to that is a refusal, and no answer to wait for."""
    try:
        yield
    except Missing as error:
        raise Rejected(error.message, code=error.code, param=error.param) from None


def _silent(provider: str, what: str, code: str) -> Unavailable:
    return Unavailable(f"The provider '{provider}' {what}.", code=code)


def _refusal(provider: str, error: openai.APIStatusError) -> PerpetuneError:
    status, code = error.status_code, error_code(error.code)
    is_passing = status in _PASSING or (status >= 500 and status != _NOT_OFFERED)
    if is_passing:
        return Unavailable(
            f"The provider '{provider}' answered {status}.",
            code=code or "provider_busy",
            retry_after=_rest(error.response),
        )
    if status == 401:
        return Unavailable(
            f"The provider '{provider}' does not accept the key of this installation; its "
            "operator has to set another.",
            code="provider_key_refused",
        )
    if code == "training_not_available":
        return Rejected(_CLOSED.format(provider=provider), code=code)
    kind = Missing if status == 404 else Rejected
    return kind(
        f"The provider '{provider}' answered {status}: {_said(error)}",
        code=code or f"provider_answered_{status}",
        param=one_line(error.param, 100) if isinstance(error.param, str) else None,
    )


def _said(error: openai.APIStatusError) -> str:
    said = error.body.get("message") if isinstance(error.body, dict) else None
    return one_line(said, 500) if isinstance(said, str) and said else "it did not say why."


def _rest(answer: httpx2.Response) -> float | None:
    rest = read_retry_after(answer)
    return None if rest is None else min(rest, _MAX_REST_SECONDS)
