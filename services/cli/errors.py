"""What the commands report instead of a traceback: one line, exit code 1."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import openai

from shared.errors import PerpetuneError


class CommandFailed(Exception):
    """A command could not do what it was asked; the message says what, where and what to do."""


def refusal(where: str, status: int, body: object) -> CommandFailed:
    """
    The API's own words in one line.

    Args:
        where: What was asked, for example `GET /api/v1/releases`.
        status: HTTP status.
        body: The parsed answer; OpenAI's error shape where the API wrote it.
    """
    error = body.get("error", body) if isinstance(body, dict) else None
    if not isinstance(error, dict) or not error.get("message"):
        return CommandFailed(f"{where} was answered with HTTP {status} and no explanation.")
    marks = [str(error[name]) for name in ("code", "param") if error.get(name)]
    return CommandFailed(f"{error['message']} ({', '.join([*marks, where])})")


@contextmanager
def told() -> Iterator[None]:
    """
    Turns what the HTTP clients and the local stack raise into one line.

    Raises:
        CommandFailed: In place of every foreign error.
    """
    try:
        yield
    except openai.APIStatusError as error:
        where = f"{error.request.method} {error.request.url.path}"
        raise refusal(where, error.status_code, error.body) from error
    except openai.APIConnectionError as error:
        raise _unreachable(str(error.request.url), error.__cause__ or error) from error
    except httpx2.RequestError as error:
        raise _unreachable(str(error.request.url), str(error) or type(error).__name__) from error
    except httpx2.InvalidURL as error:
        raise CommandFailed(f"The address of the API is no URL: {error}.") from error
    except PerpetuneError as error:
        raise CommandFailed(error.message) from error


def _unreachable(url: str, reason: object) -> CommandFailed:
    return CommandFailed(
        f"No answer from {url} ({reason}). Start the local stack with 'perpetune up', or name "
        "another server with --url or PERPETUNE_URL."
    )
