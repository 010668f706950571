"""Idempotency keys over HTTP: a repeated request gets the answer of the first one.

A route takes part by two words: its router has `route_class=CreatingRoute`, and its unit of work
is a `Creation` instead of a `Unit`. `check_creations` refuses an API that forgets one of them.
Source: the header and its errors follow draft-ietf-httpapi-idempotency-key-header (2024), but for
the status of a reused key, which is 400 here as for every request that has to be changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import BaseModel

from shared.db import UnitOfWork
from shared.errors import Corrupt
from shared.http import Unit
from shared.spine import answers
from shared.spine.answers import Answer

# Our own nouns; OpenAI's client sends no key, and marks its repetitions in another way.
_OURS = "/api/v1/"

Key = Annotated[
    str | None,
    Header(
        alias="idempotency-key",
        pattern="^[!-~]{1,255}$",
        description=(
            "Chosen by the caller, new for each request it means: 1 to 255 printable ASCII "
            "characters. The same request under the same key is carried out once."
        ),
    ),
]


@dataclass(frozen=True, slots=True)
class ShownOnce:
    """Marks a field of an answer that is stored nowhere; a repetition has null in its place.

    `key: Annotated[str | None, ShownOnce()]`
    """


@dataclass(frozen=True, slots=True)
class _Ticket:
    """A key and the digest of the request that came with it."""

    key: str
    digest: str


class _Known(Exception):
    def __init__(self, answer: Answer) -> None:
        self.answer = answer


async def _ticket(request: Request, key: Key = None) -> _Ticket | None:
    if key is None:
        return None
    target = f"{request.method} {request.url.path}?{request.url.query}\n"
    return _Ticket(key, hashlib.sha256(target.encode() + await request.body()).hexdigest())


async def _creation(
    request: Request, ticket: Annotated[_Ticket | None, Depends(_ticket)], uow: Unit
) -> UnitOfWork:
    if ticket is not None:
        known = await run_in_threadpool(answers.claim, uow, ticket.key, ticket.digest)
        if known is not None:
            raise _Known(known)
        request.state.claimed = (uow, ticket)
    return uow


# The unit of work of a route that creates something; declare it after `authorised(...)`.
Creation = Annotated[UnitOfWork, Depends(_creation)]


class CreatingRoute(APIRoute):
    """Keeps the answer of a request with a key; other routes of its router are left alone."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        secrets = _shown_once(self.response_model)

        async def once(request: Request) -> Response:
            try:
                response = await handle(request)
            except _Known as known:
                return _replayed(known.answer)
            claimed: tuple[UnitOfWork, _Ticket] | None = getattr(request.state, "claimed", None)
            if claimed is not None:
                # The unit of work is closed after this returns, and commits both together.
                uow, ticket = claimed
                kept = Answer(response.status_code, _without(bytes(response.body), secrets))
                await run_in_threadpool(answers.keep, uow, ticket.key, ticket.digest, kept)
            return response

        return once


def check_creations(app: FastAPI) -> None:
    """
    Refuse to start with a creating route that does not keep its answers.

    Raises:
        Corrupt: Names the route.
    """
    for route in iter_route_contexts(app.routes):
        if not isinstance(route.original_route, APIRoute):
            continue
        creates = _creates(route.dependant)
        must = "POST" in (route.methods or ()) and (route.path or "").startswith(_OURS)
        if (creates or must) and not (creates and isinstance(route.original_route, CreatingRoute)):
            raise Corrupt(
                f"Route {sorted(route.methods or ())} {route.path} does not honour idempotency "
                "keys; give it `uow: Creation` on a router with `route_class=CreatingRoute`.",
                code="route_not_idempotent",
            )


def _creates(dependant: Any) -> bool:  # noqa: ANN401 - FastAPI's internal tree
    return any(part.call is _creation or _creates(part) for part in dependant.dependencies)


def _replayed(answer: Answer) -> Response:
    return Response(
        answer.body,
        answer.status,
        {"idempotent-replayed": "true"},
        media_type="application/json",
    )


def _shown_once(model: object) -> list[str]:
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return []
    return [
        name
        for name, field in model.model_fields.items()
        if any(isinstance(mark, ShownOnce) for mark in field.metadata)
    ]


def _without(body: bytes, secrets: list[str]) -> str:
    if not secrets:
        return body.decode()
    return json.dumps({**json.loads(body), **dict.fromkeys(secrets)}, separators=(",", ":"))
