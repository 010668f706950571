"""The REST boundary: one error shape, request ids, body limits, scopes, one unit of work.

Plain ASGI middleware only; `BaseHTTPMiddleware` costs a task and a queue per request.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated, Any, cast

import structlog
from anyio import CapacityLimiter, to_thread
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Lifespan, Message, Receive, Scope, Send

from shared.context import Context
from shared.db import UnitOfWork, Units
from shared.errors import Corrupt, PerpetuneError, TooLarge, Unauthenticated
from shared.ids import uuid7
from shared.keys import Caller, KeyRing
from shared.logging import get_logger
from shared.scopes import SCOPES

log = get_logger(__name__)

# Anybody can send unknown keys; looking them up must not use up the threads of the routes.
_UNKNOWN_KEYS = CapacityLimiter(4)


class _Authorised:
    """Dependency that admits callers whose key has the scope; found by `check_scopes`."""

    def __init__(self, scope: str) -> None:
        if scope not in SCOPES:
            raise ValueError(f"unknown scope {scope}: add it to shared/scopes.py")
        self.scope = scope

    async def __call__(self, request: Request) -> Caller:
        keys = cast("KeyRing", request.app.state.keys)
        caller = await admitted(keys, request.headers.get("authorization"))
        caller.require(self.scope)
        request.state.caller = caller
        structlog.contextvars.bind_contextvars(project=caller.project, key_id=caller.key_id)
        return caller


async def admitted(keys: KeyRing, authorization: str | None) -> Caller:
    """
    The caller, without a thread for keys in memory: the hot path waits for nobody.

    Raises:
        Unauthenticated: See `KeyRing.caller`.
    """
    try:
        return keys.caller(authorization, may_read=False)
    except Unauthenticated:
        return await to_thread.run_sync(keys.caller, authorization, limiter=_UNKNOWN_KEYS)


def authorised(scope: str) -> Any:  # noqa: ANN401 - FastAPI's own return type
    """
    A parameter default that admits only callers with *scope*.

    `def create(body: Body, caller: Caller = authorised("files:write")) -> ...`
    """
    return Depends(_Authorised(scope))


def public() -> Any:  # noqa: ANN401 - FastAPI's own return type
    """Marks a route that needs no key (health, metrics, the API description)."""
    return Depends(_admit_everybody)


def _admit_everybody() -> None:
    return None


def context_of(request: Request) -> Context:
    """The context of an authorised request."""
    caller = cast("Caller", request.state.caller)
    return Context.root(caller.project, f"key:{caller.key_id}", request.state.request_id)


def _unit(request: Request) -> Iterator[UnitOfWork]:
    with cast("Units", request.app.state.units).open(context_of(request)) as uow:
        yield uow


# `scope="function"` commits before the answer leaves: what is answered 2xx is stored.
# Declare it after `authorised(...)`, which says whose unit it is.
Unit = Annotated[UnitOfWork, Depends(_unit, scope="function")]


def make_api(
    *,
    title: str,
    version: str,
    units: Units,
    keys: KeyRing,
    lifespan: Lifespan[FastAPI] | None = None,
) -> FastAPI:
    """An app with our error shape; the caller mounts routers and calls `check_scopes`."""
    app = FastAPI(title=title, version=version, redirect_slashes=False, lifespan=lifespan)
    app.state.units = units
    app.state.keys = keys
    app.add_exception_handler(PerpetuneError, _answer_ours)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(Exception, _answer_bug)
    return app


def check_scopes(app: FastAPI) -> None:
    """
    Refuse to start with a route that declares neither a scope nor that it is public.

    Raises:
        Corrupt: Names the route.
    """
    for route in iter_route_contexts(app.routes):
        if isinstance(route.original_route, APIRoute) and not _is_declared(route.dependant):
            raise Corrupt(
                f"Route {sorted(route.methods or ())} {route.path} declares no scope; "
                "add a parameter `caller: Caller = authorised(...)`.",
                code="route_without_scope",
            )


def _is_declared(dependant: Any) -> bool:  # noqa: ANN401 - FastAPI's internal tree
    return any(
        isinstance(part.call, _Authorised) or part.call is _admit_everybody or _is_declared(part)
        for part in dependant.dependencies
    )


def _headers(request: Request, error: PerpetuneError) -> dict[str, str]:
    request_id = getattr(request.state, "request_id", "")
    return {"x-request-id": request_id, **error.retry_headers()}


def _answer_ours(request: Request, error: Exception) -> JSONResponse:
    ours = cast("PerpetuneError", error)
    if ours.status >= 500:
        log.warning("request_failed", code=ours.code, reason=ours.message)
    return JSONResponse(ours.body(), status_code=ours.status, headers=_headers(request, ours))


def _answer_invalid(request: Request, error: Exception) -> JSONResponse:
    first = cast("RequestValidationError", error).errors()[0]
    where = [str(part) for part in first["loc"] if part not in {"body", "query", "path", "header"}]
    # Of broken JSON the place is a character, which the message names.
    param = None if first["type"] == "json_invalid" else ".".join(where) or None
    body = {
        "error": {
            "message": f"{param or 'The body'}: {first['msg']}.",
            "type": "invalid_request_error",
            "param": param,
            "code": "invalid_value" if param else "invalid_body",
        }
    }
    return JSONResponse(body, status_code=400, headers={"x-request-id": request.state.request_id})


def _answer_http(request: Request, error: Exception) -> JSONResponse:
    http = cast("HTTPException", error)
    code = {404: "unknown_url", 405: "method_not_allowed"}.get(http.status_code, "http_error")
    message = {
        404: f"There is no route {request.method} {request.url.path}.",
        405: f"{request.url.path} does not answer {request.method}.",
    }.get(http.status_code, str(http.detail))
    body = {
        "error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    }
    return JSONResponse(body, status_code=http.status_code, headers=http.headers)


def _answer_bug(request: Request, error: Exception) -> JSONResponse:
    log.error("request_crashed", error=type(error).__name__, exc_info=error)
    body = {
        "error": {
            "message": "Something broke on our side; the log has it under this request id.",
            "type": "server_error",
            "param": None,
            "code": "internal_error",
        }
    }
    return JSONResponse(
        body,
        status_code=500,
        headers={"x-request-id": getattr(request.state, "request_id", "")},
    )


class RequestBoundary:
    """ASGI middleware: request id, body limit, processing time, one log line per request."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int, max_upload_bytes: int) -> None:
        """
        Args:
            app: The application inside.
            max_body_bytes: Largest JSON body.
            max_upload_bytes: Largest multipart body (file uploads).
        """
        self._app = app
        self._max_body = max_body_bytes
        self._max_upload = max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        request_id = f"req_{uuid7().hex}"
        scope.setdefault("state", {})["request_id"] = request_id
        upload = headers.get(b"content-type", b"").startswith(b"multipart/")
        limit = self._max_upload if upload else self._max_body
        exchange = _Exchange(scope, receive, send, request_id, limit)
        structlog.contextvars.bind_contextvars(request_id=request_id)
        declared = headers.get(b"content-length", b"0")
        try:
            if declared.isdigit() and int(declared) > limit:
                await exchange.refuse()
                return
            await self._app(scope, exchange.receive, exchange.send)
        except TooLarge:
            await exchange.refuse()
        except Exception:
            # Answered outside of this middleware; the log line has to say so.
            exchange.status = exchange.status or 500
            raise
        finally:
            log.info(
                "request_finished",
                method=scope["method"],
                path=scope["path"],
                status=exchange.status,
                seconds=round(exchange.seconds, 4),
            )
            structlog.contextvars.clear_contextvars()


class _Exchange:
    """Counts one request's body and stamps its answer."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, request_id: str, limit: int
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._request_id = request_id
        self._limit = limit
        self._received = 0
        self._is_refused = False
        self._started = time.perf_counter()
        self.status = 0

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._started

    async def receive(self) -> Message:
        message = await self._receive()
        self._received += len(message.get("body", b""))
        if self._received > self._limit:
            raise self._too_large()
        return message

    async def send(self, message: Message) -> None:
        if self._received > self._limit and self.status == 0:
            # The framework makes an answer of its own from what `receive` raises.
            await self.refuse()
        elif not self._is_refused:
            await self._stamp(message)

    async def refuse(self) -> None:
        """Answer 413, unless an answer has begun; whatever follows is dropped."""
        if self.status == 0:
            self._is_refused = True
            answer = JSONResponse(self._too_large().body(), status_code=413)
            await answer(self._scope, self._receive, self._stamp)

    async def _stamp(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            names = {name for name, _ in message["headers"]}
            if b"x-request-id" not in names:
                message["headers"].append((b"x-request-id", self._request_id.encode()))
            spent = str(round(self.seconds * 1000)).encode()
            message["headers"].append((b"openai-processing-ms", spent))
        await self._send(message)

    def _too_large(self) -> TooLarge:
        return TooLarge(
            f"The body is over the limit of {self._limit} bytes; send less.", code="body_too_large"
        )
