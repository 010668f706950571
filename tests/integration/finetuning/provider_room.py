"""Jobs at a simulated provider in one process: API, files and tasks rung by hand, real Postgres."""

from __future__ import annotations

import io
import json
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import celery
from fastapi.testclient import TestClient
from finetuning_room import KEYS, PROJECT, FixedKeys
from sqlalchemy import text

from services.finetuning import api as finetuning_api
from services.finetuning import bootstrap, settings
from services.finetuning import tasks as _finetuning
from services.ingestion import api as ingestion_api
from services.ingestion import tasks as _ingestion
from shared import http, process
from shared.db import Units, make_engine
from shared.keys import KeyRing
from shared.rotation import RotatingSecret
from shared.settings import CoreSettings
from shared.testing.provider import TrainingService
from shared.testing.provider.server import KEY

JOBS = "/v1/fine_tuning/jobs"
MODEL = "sim/base-1"
ROWS = [
    {"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"{n}!"}]}
    for n in range(12)
]
_CACHED = (
    process.process_settings,
    process.process_units,
    process.process_blobs,
    bootstrap.process_desk,
    bootstrap.process_providers,
    settings.finetuning_settings,
)
assert _finetuning
assert _ingestion


@dataclass
class ProviderRoom:
    """What the tests do with jobs at a provider."""

    units: Units
    spine: Units
    client: TestClient
    service: TrainingService

    def upload(self, rows: list[dict[str, Any]] = ROWS) -> str:
        data = io.BytesIO("\n".join(map(json.dumps, rows)).encode())
        answer = self.client.post(
            "/v1/files", data={"purpose": "fine-tune"}, files={"file": ("rows.jsonl", data)}
        )
        return answer.json()["id"]

    def create(self, **body: object) -> str:
        """A job whose rows are checked, so that its first step is due; its id."""
        given = {"model": MODEL, "training_file": self.upload(), **body}
        answer = self.client.post(JOBS, json=given)
        assert answer.status_code == 200, answer.text
        while any(row.queue == "ingestion" for row in self.due()):
            self.ring("ingestion")
        while self.due("finetuning.accept_dataset"):
            self.ring("finetuning")
        return str(answer.json()["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        return self.client.get(f"{JOBS}/{job_id}").json()

    def events(self, job_id: str) -> list[dict[str, Any]]:
        """Oldest first."""
        return self.client.get(f"{JOBS}/{job_id}/events?limit=100").json()["data"][::-1]

    def messages(self, job_id: str) -> list[str]:
        return [event["message"] for event in self.events(job_id)]

    def run(self, job_id: str) -> Any:
        (found,) = self.rows("SELECT * FROM finetuning.provider_runs WHERE job_id = :id", id=job_id)
        return found

    def due(self, task: str = "%") -> list[Any]:
        """Unfinished deliveries to the two rooms, oldest first."""
        return self.rows(
            "SELECT id, queue, task, starts, last_error, extract(epoch FROM due_at - now()) AS due "
            "FROM spine.deliveries WHERE queue IN ('ingestion', 'finetuning') "
            "AND task LIKE :task ORDER BY seq",
            task=task,
        )

    def ring(self, queue: str = "finetuning") -> None:
        """Ring the oldest delivery of a queue once, as delivery does when it is due."""
        first = next(row for row in self.due() if row.queue == queue)
        with self.spine.open(PROJECT) as uow:
            uow.session.execute(
                text("UPDATE spine.deliveries SET due_at = now() WHERE id = :id"), {"id": first.id}
            )
        celery.current_app.tasks[first.task](str(first.id))

    def step(self, times: int = 1) -> None:
        """Steps of the job, however far away they are."""
        for _ in range(times):
            self.ring()

    def step_until(self, job_id: str, phase: str, most: int = 30) -> None:
        """Until the run is in this phase; `done` is its end."""
        while self.run(job_id).phase != phase:
            most -= 1
            assert most >= 0, (self.run(job_id), self.messages(job_id))
            self.step()

    def rows(self, statement: str, **values: object) -> list[Any]:
        with self.units.open(PROJECT) as uow:
            found = uow.session.execute(text(statement), values)
            return list(found.all()) if found.returns_rows else []

    def emitted(self, message_type: str) -> list[dict[str, Any]]:
        with self.spine.open(PROJECT) as uow:
            return list(
                uow.session.execute(
                    text("SELECT envelope->'data' FROM spine.events WHERE type = :type"),
                    {"type": message_type},
                ).scalars()
            )


def write_providers(folder: Path, url: str, models: tuple[str, ...] = ("base-1",)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "providers.toml"
    file.write_text(f'[sim]\nbase_url = "{url}/v1"\nkey = "{KEY}"\nmodels = {list(models)}\n')
    file.chmod(0o600)


@contextmanager
def provider_room(database, folder: Path, service: TrainingService, monkeypatch, **ours: object):
    """A room whose provider `sim` is *service*; *ours* are settings of finetuning."""
    write_providers(folder / "secrets", service.url)
    core = {
        "database_app_url": database.app,
        "blobs_url": folder / "blobs",
        "home": folder / "home",
        "secrets_dir": folder / "secrets",
        "delivery_attempts": 3,
    }
    scaled = {
        "provider_poll_seconds": 0.1,
        "provider_longest_poll_seconds": 4,
        "provider_step_seconds": 1.0,
        "provider_missing_seconds": 60,
    }
    named = {f"finetuning_{name}": value for name, value in (scaled | ours).items()}
    for name, value in (core | named).items():
        monkeypatch.setenv(f"PERPETUNE_{name.upper()}", str(value))
    _forget()
    units = process.process_units()
    spine = Units(make_engine(database.spine, CoreSettings()))
    try:
        yield ProviderRoom(units, spine, _client(units), service)
    finally:
        spine.engine.dispose()
        units.engine.dispose()
        _forget()


def _client(units: Units) -> TestClient:
    app = http.make_api(
        title="t",
        version="0",
        units=units,
        keys=KeyRing(FixedKeys(), RotatingSecret.fixed("pepper")),
    )
    for room in (finetuning_api, ingestion_api):
        app.include_router(room.router)
    app.add_middleware(http.RequestBoundary, max_body_bytes=1 << 20, max_upload_bytes=1 << 26)
    return TestClient(app, headers={"authorization": f"Bearer {KEYS['owner']}"})


def _forget() -> None:
    for cached in _CACHED:
        cached.cache_clear()
