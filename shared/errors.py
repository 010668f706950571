"""One tree of errors, by what the caller can do next.

The class decides the HTTP status and what a task does; `code` is stable and says what happened;
the message is for people and safe to show. Foreign exceptions are mapped once, at the edge.
"""

from __future__ import annotations

from typing import ClassVar


class PerpetuneError(Exception):
    """Something went wrong."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    # What a caller is told to wait where nobody knows better; None where a repeat cannot help.
    usual_retry_seconds: ClassVar[float | None] = None

    def __init__(
        self,
        message: str | None = None,
        *,
        code: str,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        """
        Args:
            message: For people; says what to do. The class docstring is the default.
            code: Stable name of what happened, `lower_snake`; clients match on it.
            param: Path of the offending field, for example `method.supervised.n_epochs`.
            retry_after: Seconds after which a repeat may succeed.
        """
        self.message = message or (self.__class__.__doc__ or "").strip()
        self.code = code
        self.param = param
        self.retry_after = retry_after
        super().__init__(self.message)

    def body(self) -> dict[str, dict[str, str | None]]:
        """The error in OpenAI's shape, all four keys present."""
        return {
            "error": {
                "message": self.message,
                "type": self.type,
                "param": self.param,
                "code": self.code,
            }
        }

    def retry_headers(self) -> dict[str, str]:
        """When to repeat, in seconds and in OpenAI's milliseconds; empty where that cannot help."""
        seconds = self.usual_retry_seconds if self.retry_after is None else self.retry_after
        if seconds is None:
            return {}
        return {
            "retry-after": str(max(1, round(seconds))),
            "retry-after-ms": str(round(seconds * 1000)),
        }


class Invalid(PerpetuneError):
    """The request cannot be carried out as it is; change the named field."""

    status = 400
    type = "invalid_request_error"


class Unauthenticated(PerpetuneError):
    """No valid API key; send `Authorization: Bearer ppt_...`."""

    status = 401
    type = "authentication_error"


class Forbidden(PerpetuneError):
    """The key lacks the scope for this; ask an owner of the project for one that has it."""

    status = 403
    type = "permission_error"


class Missing(PerpetuneError):
    """There is no such thing in this project."""

    status = 404
    type = "invalid_request_error"


class Conflict(PerpetuneError):
    """The state does not allow this; read it again and decide anew.

    Answered as 400: the openai client repeats a 409 by itself, which cannot help here.
    """

    status = 400
    type = "invalid_request_error"


class InProgress(PerpetuneError):
    """The same request is being carried out; repeat it after Retry-After to get its answer.

    The only 409 there is: here the repetition a client sends by itself is what helps.
    """

    status = 409
    type = "invalid_request_error"


class TooLarge(PerpetuneError):
    """The body is over the limit; send less."""

    status = 413
    type = "invalid_request_error"


class RateLimited(PerpetuneError):
    """Too many requests at once; repeat after Retry-After."""

    status = 429
    type = "rate_limit_error"


class QuotaExceeded(PerpetuneError):
    """A project has as much as it may have; Retry-After says when to look again."""

    status = 429
    type = "insufficient_quota"


class StorageFull(PerpetuneError):
    """There is no room to store this; free space and repeat."""

    status = 507


class Unavailable(PerpetuneError):
    """A part we depend on does not answer; repeat after Retry-After."""

    status = 503
    type = "service_unavailable"
    usual_retry_seconds = 1.0


class Rejected(PerpetuneError):
    """The provider refused for good."""

    status = 502
    type = "upstream_error"


class LeaseLost(PerpetuneError):
    """Another process holds the lease now; stop quietly."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message, code="lease_lost")


class Corrupt(PerpetuneError):
    """An invariant is broken; a person has to look."""
