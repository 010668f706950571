"""Rows, ringers and workers for the tests of delivery."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from services.delivery.bootstrap import make_bell, make_queues
from shared.context import Context
from shared.contracts.envelope import Envelope
from shared.contracts.workloads import WorkloadCreated
from shared.db import Units, make_engine
from shared.ids import Project, uuid7
from shared.settings import CoreSettings

_ROOT = Path(__file__).parents[3]
_PROBE = Path(__file__).with_name("probe_worker.py")


class Bench:
    """One database, one bus, and what the tests do with them."""

    def __init__(self, database, bus_url, log: Path):
        self.settings = CoreSettings(
            database_app_url=database.app,
            database_spine_url=database.spine,
            bus_url=bus_url,
            broker_prefix=f"perpetune:{uuid7().hex}:",
            ring_again_seconds=1.5,
            delivery_attempts=3,
            worker_soft_shutdown_seconds=0.5,
        )
        self.app = Units(make_engine(database.app, self.settings))
        self.spine = Units(make_engine(database.spine, self.settings))
        self.bell = make_bell(self.settings)
        self.queues = make_queues(self.settings)
        self._log = log

    def deliver(
        self, project="a", *, task="drift.probe", subject="wl_1", lane=None, sleep=0.0, model="m"
    ):
        """One committed delivery; returns its id."""
        context = Context.root(Project(project), "test")
        message = WorkloadCreated(workload_id=subject, name=str(sleep), base_model=model)
        delivery = str(uuid7())
        with self.app.open(context) as uow:
            uow.session.execute(
                text("""
                    INSERT INTO spine.deliveries (id, project, queue, task, envelope, lane)
                    VALUES (:id, :project, :queue, :task, CAST(:envelope AS jsonb), :lane)
                """),
                {
                    "id": delivery,
                    "project": project,
                    "queue": task.partition(".")[0],
                    "task": task,
                    "envelope": Envelope.seal(message, context, uow.now).model_dump_json(),
                    "lane": lane,
                },
            )
        return delivery

    def rows(self, statement: str, **parameters):
        with self.spine.open(Context.root(Project(""), "test")) as uow:
            return uow.session.execute(text(statement), parameters).all()

    def finish(self, delivery: str) -> None:
        self.rows("SELECT spine.take(CAST(:id AS uuid))", id=delivery)

    def effects(self) -> list[str]:
        return [
            row[0]
            for row in self.rows(
                "SELECT subject FROM spine.audit_entries WHERE action = 'probe.done' ORDER BY seq"
            )
        ]

    def environment(self) -> dict[str, str]:
        ours = {
            f"PERPETUNE_{name}".upper(): str(getattr(self.settings, name))
            for name in self.settings.model_fields_set
        }
        return {**os.environ, **ours, "PYTHONPATH": str(_ROOT)}

    @contextlib.contextmanager
    def process(self, *command: str):
        """A process of ours in a session of its own; killed with its children at the end."""
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *command],
                cwd=_ROOT,
                env=self.environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def worker(self):
        return self.process(str(_PROBE), "--queues", "drift")

    def delivery(self):
        return self.process("-m", "services.delivery")

    def log(self) -> str:
        return self._log.read_text()


def until(condition, *, seconds=60.0, bench=None):
    """Wait for *condition*; shows the processes' log when it does not come."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"did not happen in {seconds} s\n{bench.log() if bench else ''}")
        time.sleep(0.02)
    return value


@pytest.fixture
def bench(database, bus_url, tmp_path):
    return Bench(database, bus_url, tmp_path / "processes.log")


@pytest.fixture
def eventually(bench):
    def wait(condition, *, seconds=60.0):
        return until(condition, seconds=seconds, bench=bench)

    return wait
