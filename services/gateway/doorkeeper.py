"""Turns away requests without a valid key before a byte of their body is read."""

from __future__ import annotations

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.errors import Unauthenticated
from shared.http import admitted
from shared.keys import KeyRing

# Everything below needs a key; what is public lives outside.
GUARDED = ("/v1/", "/api/v1/")


class Doorkeeper:
    """ASGI middleware; which scope a route needs is the route's own business."""

    def __init__(self, app: ASGIApp, *, keys: KeyRing) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(GUARDED):
            try:
                await admitted(self._keys, Headers(scope=scope).get("authorization"))
            except Unauthenticated as error:
                answer = JSONResponse(
                    error.body(), status_code=401, headers={"www-authenticate": "Bearer"}
                )
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)
