"""Evaluation in one process: its API, its tasks rung by hand, on a real Postgres."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass
from typing import Any

import celery
import pytest
from fastapi.testclient import TestClient
from model_stand_in import BASE, TUNED, StandIn, key_of, run_stand_in
from sqlalchemy import text

from services.evaluation import bootstrap
from services.evaluation import tasks as _registered
from shared import http, process
from shared.blobs import BlobStore
from shared.context import Context
from shared.contracts.envelope import Message
from shared.db import Units, make_engine
from shared.ids import Project
from shared.keys import KeyRing, StoredKey, mac_of
from shared.rotation import RotatingSecret
from shared.scopes import SCOPES
from shared.settings import CoreSettings

PROJECT = Context.root(Project("default"), "test")
_CACHED = (
    process.process_settings,
    process.process_units,
    process.process_blobs,
    bootstrap.process_evaluator,
    bootstrap.evaluation_settings,
)
assert _registered


class _Keys:
    """A key ring's snapshot: one key with all scopes for each of two projects, one with none."""

    def __init__(self) -> None:
        scopes = {"default": SCOPES, "another": SCOPES, "reader": frozenset({"evaluations:read"})}
        self.value = {
            name.ljust(10, "0"): StoredKey(
                name.ljust(10, "0"), Project(name), mac_of(key_of(name), "pepper"), granted, None
            )
            for name, granted in scopes.items()
        }

    def refresh_soon(self) -> None:
        """Nothing newer exists."""


@dataclass
class Room:
    """What the tests do with evaluation."""

    units: Units
    spine: Units
    blobs: BlobStore
    client: TestClient

    def rows(self, statement: str, **values: object) -> list[Any]:
        with self.units.open(PROJECT) as uow:
            found = uow.session.execute(text(statement), values)
            return list(found.all()) if found.returns_rows else []

    def emit(self, message: Message) -> None:
        with self.units.open(PROJECT) as uow:
            uow.emit(message)

    def upload(self, rows: list[Any], purpose: str = "evals") -> str:
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        data = io.BytesIO("\n".join(lines).encode())
        answer = self.client.post(
            "/v1/files", data={"purpose": purpose}, files={"file": ("held_out.jsonl", data)}
        )
        return answer.json()["id"]

    def digest(self, rows: list[Any]) -> str:
        return self.blobs.put(PROJECT.project, "\n".join(map(json.dumps, rows)).encode())

    def register(
        self, name: str = TUNED, *, base: str = BASE, gguf: bytes = b"gguf", peft: bytes = b""
    ) -> None:
        """A tuned model as releases registers it."""
        self.rows(
            """
            INSERT INTO releases.models (project, model_id, kind, base, parent, gguf_digest,
                                         peft_digest, job_id, dataset_id)
            VALUES ('default', :name, 'fine_tuned', :base, :base, :gguf, :peft, 'ftjob-1', 'ds_1')
            """,
            name=name,
            base=base,
            gguf=self.blobs.put(PROJECT.project, gguf),
            peft=self.blobs.put(PROJECT.project, peft or _adapter(name)),
        )

    def create_workload(self, name: str, gate: dict[str, float]) -> None:
        self.rows(
            "INSERT INTO workloads.workloads (project, workload_id, name, base_model) "
            "VALUES ('default', :id, :name, :base)",
            id=f"wl_{name}",
            name=name,
            base=BASE,
        )
        self.rows(
            "INSERT INTO workloads.policies (project, workload_id, version, policy, created_by) "
            "VALUES ('default', :id, 3, CAST(:policy AS jsonb), 'test')",
            id=f"wl_{name}",
            policy=json.dumps({"gate": gate}),
        )

    def due(self) -> list[Any]:
        """Unfinished deliveries to evaluation, oldest first."""
        return self.rows(
            "SELECT id, task, starts, last_error, envelope->'data' AS data FROM spine.deliveries "
            "WHERE queue = 'evaluation' ORDER BY seq"
        )

    def ring(self) -> None:
        """Ring the oldest delivery once, as delivery does when it is due."""
        first = self.due()[0]
        with self.spine.open(PROJECT) as uow:
            uow.session.execute(
                text("UPDATE spine.deliveries SET due_at = now() WHERE id = :id"), {"id": first.id}
            )
        celery.current_app.tasks[first.task](str(first.id))

    def run(self, most: int = 50) -> None:
        """Ring until nothing is left."""
        while self.due():
            most -= 1
            assert most >= 0, f"still due: {self.due()}"
            self.ring()

    def completed(self) -> list[dict[str, Any]]:
        """The facts told to others, oldest first."""
        return [
            row.data
            for row in self.rows(
                "SELECT envelope->'data' AS data FROM spine.deliveries "
                "WHERE task = 'workloads.hear_evaluation' ORDER BY seq"
            )
        ]

    def audited(self) -> list[Any]:
        return self.rows(
            "SELECT action, subject, reason, facts FROM spine.audit_entries "
            "WHERE action LIKE 'evaluation.%' ORDER BY seq"
        )


def _adapter(name: str) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        entry = tarfile.TarInfo("adapter_config.json")
        entry.size = len(name.encode())
        tar.addfile(entry, io.BytesIO(name.encode()))
    return data.getvalue()


@pytest.fixture
def stand_in():
    with run_stand_in() as running:
        yield running


@pytest.fixture
def make_room(database, tmp_path, monkeypatch):
    """Rooms that use the model server at a given address."""

    def make(serving_url: str, *, attempts: int = 3, **settings: object) -> Room:
        monkeypatch.setenv("PERPETUNE_DATABASE_APP_URL", database.app)
        monkeypatch.setenv("PERPETUNE_BLOBS_URL", str(tmp_path / "blobs"))
        monkeypatch.setenv("PERPETUNE_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("PERPETUNE_SERVING_URL", serving_url)
        monkeypatch.setenv("PERPETUNE_DELIVERY_ATTEMPTS", str(attempts))
        for name, value in settings.items():
            monkeypatch.setenv(f"PERPETUNE_EVALUATION_{name.upper()}", str(value))
        _forget()
        units = process.process_units()
        return Room(units, spine, process.process_blobs(), _client(units))

    spine = Units(make_engine(database.spine, CoreSettings()))
    yield make
    spine.engine.dispose()
    process.process_units().engine.dispose()
    _forget()


@pytest.fixture
def room(make_room, stand_in: StandIn) -> Room:
    return make_room(stand_in.url, step_seconds=1.5, max_cases=40)


def _forget() -> None:
    for cached in _CACHED:
        cached.cache_clear()


def _client(units: Units) -> TestClient:
    from services.evaluation.api import router
    from services.ingestion.api import router as files

    app = http.make_api(
        title="t", version="0", units=units, keys=KeyRing(_Keys(), RotatingSecret.fixed("pepper"))
    )
    app.include_router(router)
    app.include_router(files)
    app.add_middleware(http.RequestBoundary, max_body_bytes=1 << 20, max_upload_bytes=1 << 26)
    http.check_scopes(app)
    return TestClient(app, headers={"authorization": f"Bearer {key_of('default')}"})
