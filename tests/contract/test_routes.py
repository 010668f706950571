"""What every room promises by the way it declares its routes; no server is needed."""

from __future__ import annotations

from typing import Annotated

import pytest
from fastapi import APIRouter, FastAPI
from pydantic import BaseModel

from services.gateway.rooms import find_rooms
from shared.errors import Corrupt
from shared.http import check_scopes, public


class Made(BaseModel):
    id: str


def _app(*routers: APIRouter) -> FastAPI:
    app = FastAPI()
    for router in routers:
        app.include_router(router)
    return app


@pytest.fixture
def app():
    return _app(*(room.router for room in find_rooms()))


def test_every_route_declares_who_may_use_it(app):
    check_scopes(app)


def test_a_route_without_a_scope_is_refused():
    router, open_router = APIRouter(), APIRouter()

    @router.get("/secret")
    def read() -> Made:
        return Made(id="x")

    @open_router.get("/open")
    def look(_: Annotated[None, public()]) -> Made:
        return Made(id="x")

    check_scopes(_app(open_router))
    with pytest.raises(Corrupt, match="/secret declares no scope"):
        check_scopes(_app(router))
