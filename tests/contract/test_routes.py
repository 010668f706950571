"""What every room promises by the way it declares its routes; no server is needed."""

from __future__ import annotations

from typing import Annotated

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import BaseModel

from services.gateway.rooms import find_rooms
from shared import errors
from shared.backpressure import _addition, _require_room
from shared.errors import Corrupt
from shared.http import Unit, check_scopes, public
from shared.idempotency import CreatingRoute, Creation, check_creations

CREATING = {
    "/api/v1/dead-letters/{dead_letter_id}/discard",
    "/api/v1/dead-letters/{dead_letter_id}/replay",
    "/api/v1/evaluations",
    "/api/v1/feedback",
    "/api/v1/keys",
    "/api/v1/releases",
    "/api/v1/releases/{release_id}/rollback",
    "/api/v1/subscriptions",
    "/api/v1/workloads",
    "/api/v1/workloads/{name:path}/cycles",
}


# What leaves work behind; all else that changes something ends, undoes or shows work.
ADDING = {
    "/api/v1/evaluations",
    "/api/v1/feedback",
    "/api/v1/releases",
    "/api/v1/workloads",
    "/api/v1/workloads/{name:path}/cycles",
    "/v1/batches",
    "/v1/files",
    "/v1/fine_tuning/jobs",
    "/v1/fine_tuning/jobs/{job_id}/resume",
    "/v1/uploads/{upload_id}/complete",
}


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


def _posts(app: FastAPI) -> dict[str, APIRoute]:
    return {
        str(route.path): route.original_route
        for route in iter_route_contexts(app.routes)
        if isinstance(route.original_route, APIRoute) and "POST" in (route.methods or ())
    }


def test_every_post_of_ours_honours_idempotency_keys(app):
    check_creations(app)
    posts = _posts(app)
    assert {path for path in posts if path.startswith("/api/v1/")} == CREATING
    described = app.openapi()["paths"]
    for path in CREATING:
        headers = described[path.replace(":path", "")]["post"]["parameters"]
        assert "idempotency-key" in {header["name"] for header in headers}, path


def _dependencies(dependant):
    for part in dependant.dependencies:
        yield part.call
        yield from _dependencies(part)


def test_what_adds_work_is_refused_to_a_project_that_has_too_much(app):
    bounded = {
        str(route.path)
        for route in iter_route_contexts(app.routes)
        if isinstance(route.original_route, APIRoute)
        and {_addition, _require_room} & set(_dependencies(route.dependant))
    }
    assert bounded == ADDING


def test_every_route_declares_who_may_use_it(app):
    check_scopes(app)


def test_a_creating_route_without_a_creation_is_refused():
    router = APIRouter(prefix="/api/v1", route_class=CreatingRoute)

    @router.post("/things")
    def make(uow: Unit) -> Made:
        return Made(id=uow.project)

    with pytest.raises(Corrupt, match="/api/v1/things does not honour idempotency keys"):
        check_creations(_app(router))


@pytest.mark.parametrize("prefix", ["/api/v1", "/v1"])
def test_a_creation_that_would_keep_no_answer_is_refused(prefix):
    router = APIRouter(prefix=prefix)

    @router.post("/things")
    def make(uow: Creation) -> Made:
        return Made(id=uow.project)

    with pytest.raises(Corrupt, match="route_class=CreatingRoute"):
        check_creations(_app(router))


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


def test_one_error_alone_is_a_409():
    """The openai client repeats a 409 by itself, which helps nowhere else."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    conflicts = [kind for kind in kinds if getattr(kind, "status", None) == 409]
    assert conflicts == [errors.InProgress]
