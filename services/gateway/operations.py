"""Routes for operators: is it alive, is it ready, how is it doing."""

from __future__ import annotations

from typing import Annotated, Literal, cast

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

from services.gateway import repository
from services.gateway.metrics import Metrics
from shared.backpressure import Backlogs
from shared.broker import ROOM_QUEUES
from shared.context import Context
from shared.db import Units
from shared.errors import Unavailable
from shared.http import public
from shared.ids import Project
from shared.keys import KeyRing, StoredKey
from shared.logging import get_logger
from shared.snapshots import Snapshot
from shared.spine import figures

log = get_logger(__name__)
router = APIRouter(tags=["operations"])

# Dead letters of the queue door lie in no queue of ours.
_QUEUES = (*ROOM_QUEUES, "inference.door")
_OPERATOR = Context.root(Project(""), "process:gateway")


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """Whether requests can be served; `missing` says in a sentence each what is not there."""

    status: Literal["ready", "not_ready"]
    missing: list[str]


@router.get("/healthz")
def healthz(_public: Annotated[None, public()]) -> Health:
    """The process is alive."""
    return Health()


@router.get("/readyz", responses={503: {"model": Readiness, "description": "Something is missing"}})
def readyz(_public: Annotated[None, public()], request: Request, response: Response) -> Readiness:
    """Postgres answers and the keys in memory are fresh."""
    missing = _missing(request)
    response.status_code = 503 if missing else 200
    return Readiness(status="not_ready" if missing else "ready", missing=missing)


@router.get("/metrics", response_class=Response)
def metrics(_public: Annotated[None, public()], request: Request) -> Response:
    """Prometheus metrics; the spine's are left as they were while Postgres is away."""
    state = request.app.state
    instruments = cast("Metrics", state.metrics)
    instruments.snapshot_age.set(state.snapshot.age_seconds)
    instruments.keys_outdated.set(cast("KeyRing", state.keys).count_outdated())
    instruments.projects_full.set(cast("Backlogs", state.backlogs).count)
    try:
        with cast("Units", state.spine).open(_OPERATOR) as uow:
            instruments.spine.record_backlogs(figures.list_backlogs(uow.session, _QUEUES))
            instruments.spine.record_leases(figures.list_leases(uow.session))
            instruments.spine.record_tables(figures.list_tables(uow.session))
    except Unavailable as error:
        log.warning("spine_unknown", reason=error.message)
        instruments.database_up.set(0)
    else:
        instruments.database_up.set(1)
    return Response(generate_latest(instruments.registry), media_type=CONTENT_TYPE_LATEST)


def _missing(request: Request) -> list[str]:
    state = request.app.state
    missing = []
    try:
        with cast("Units", state.units).open(_OPERATOR) as uow:
            repository.ping(uow.session)
    except Unavailable:
        missing.append("Postgres does not answer; see PERPETUNE_DATABASE_APP_URL.")
    snapshot = cast("Snapshot[dict[str, StoredKey]]", state.snapshot)
    if snapshot.age_seconds > state.snapshot_fresh_seconds:
        missing.append(f"The keys in memory are {snapshot.age_seconds:.0f} s old.")
    return missing
