"""The loop's rooms on a real database: messages delivered by hand, other rooms' facts inserted."""

from __future__ import annotations

import importlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import text

from services.releases.service.load import load_release
from shared.blobs import BlobStore
from shared.context import Context
from shared.contracts.finetuning import ModelCreated
from shared.db import Units
from shared.ids import Project, new_id, uuid7
from shared.keys import StoredKey, mac_of
from shared.receipts import Receipt
from shared.scopes import SCOPES
from shared.spine import deliveries
from shared.spine.deliveries import Delivery
from shared.task import Work, registered_tasks

BASE = "smollm2-135m-instruct"
OWN_ROOMS = ("workloads", "releases", "drift")
KEYS = {name: f"ppt_{name}_" + "a" * 43 for name in ("owner", "other", "nobody")}


class FixedKeys:
    """The key ring's snapshot with three keys in it."""

    def __init__(self, loop: Loop, rival: Loop) -> None:
        known = {
            "owner": (loop, SCOPES),
            "other": (rival, SCOPES),
            "nobody": (loop, frozenset[str]()),
        }
        self.value = {
            name: StoredKey(
                name, project.context.project, mac_of(KEYS[name], "pepper"), scopes, None
            )
            for name, (project, scopes) in known.items()
        }

    def refresh_soon(self) -> None:
        """Nothing newer exists."""


class Residency:
    """A model server's memory: what it was asked to keep."""

    def __init__(self) -> None:
        self.adapters: dict[str, str | None] = {}

    def load(
        self, model: str, *, base: str, adapter: str | None = None, pinned: bool | None = None
    ) -> None:
        assert base == BASE
        assert pinned
        self.adapters[model] = adapter

    def unload(self, model: str) -> None:
        self.adapters.pop(model, None)


class Loop:
    """Shortcuts through one project."""

    def __init__(self, units: Units, spine: Units, blobs: BlobStore, project: str) -> None:
        self.units = units
        self.spine = spine
        self.blobs = blobs
        self.context = Context.root(Project(project), "test")
        self.serving: Any = Residency()

    # Messages

    def due(self) -> list[Delivery]:
        """Deliveries that are due now, in the order of emission."""
        with self.units.open(self.context) as uow:
            rows = uow.session.execute(
                text("""
                    SELECT CAST(id AS text), project, queue, task, starts, envelope
                    FROM spine.deliveries WHERE due_at <= now() ORDER BY seq
                """)
            )
            return [Delivery(*row) for row in rows]

    def sent(self, task: str) -> list[dict[str, Any]]:
        """Bodies of the deliveries that wait for *task*, due or not."""
        rows = self.rows(
            "SELECT envelope FROM spine.deliveries WHERE task = :t ORDER BY seq", t=task
        )
        return [row.envelope["data"] for row in rows]

    def deliver(self) -> list[str]:
        """Answer what is due for the rooms of the loop until nothing is; names of the tasks."""
        done = []
        while own := [d for d in self.due() if d.queue in OWN_ROOMS]:
            for delivery in own:
                self.answer(delivery)
                done.append(delivery.task)
        return done

    def answer(self, delivery: Delivery) -> None:
        room, _, verb = delivery.task.partition(".")
        module = importlib.import_module(f"services.{room}.tasks")
        message = registered_tasks()[delivery.task].model_validate(delivery.envelope.data)
        context = delivery.envelope.context(f"task:{delivery.task}")
        work = Work(self.units, delivery, context)
        if verb == "load_release":
            load_release(work, self.serving, self.blobs, message.release_id)
            return
        with work.finish() as uow:
            getattr(module, verb)(uow, message)

    def take(self, task: str) -> dict[str, Any]:
        """Take the one delivery for another room's *task*, as that room would."""
        [delivery] = [d for d in self.due() if d.task == task]
        with self.units.open(self.context) as uow:
            assert deliveries.take(uow.session, delivery.id)
        return delivery.envelope.data

    def emit(self, message: Any) -> None:
        with self.units.open(self.context) as uow:
            uow.emit(message)

    def say(self, message: Any) -> None:
        """Emit what another room would, and let the loop answer."""
        self.emit(message)
        self.deliver()

    # Rows

    def rows(self, query: str, **parameters: Any) -> list[Any]:
        with self.units.open(self.context) as uow:
            return list(uow.session.execute(text(query), parameters))

    def value(self, query: str, **parameters: Any) -> Any:
        [row] = self.rows(query, **parameters)
        return row[0]

    def execute(self, statement: str, **parameters: Any) -> None:
        with self.units.open(self.context) as uow:
            uow.session.execute(text(statement), parameters)

    def schedules(self, message_type: str) -> set[str]:
        rows = self.rows("SELECT subject FROM spine.schedules WHERE type = :t", t=message_type)
        return {row.subject for row in rows}

    def actions(self) -> list[str]:
        return [
            row.action for row in self.rows("SELECT action FROM spine.audit_entries ORDER BY seq")
        ]

    # Facts of other rooms

    def add_model(self, suffix: str, *, dataset_id: str = "ds_0", data: bytes = b"gguf") -> str:
        model = f"ft:{BASE}:acme:{suffix}:0001"
        digest = self.blobs.put(self.context.project, data)
        self.say(
            ModelCreated(
                model_id=model,
                kind="fine_tuned",
                base=BASE,
                parent=BASE,
                job_id="ftjob-1",
                dataset_id=dataset_id,
                gguf_digest=digest,
                peft_digest="0" * 64,
            )
        )
        return model

    def add_dataset(self, dataset_id: str, training_digest: str) -> None:
        self.execute(
            "INSERT INTO ingestion.datasets (id, project, state, base, requester, sources,"
            " training_digest) VALUES (:id, :project, 'sealed', :base, 'job:1', '[]', :digest)",
            id=dataset_id,
            project=self.context.project,
            base=BASE,
            digest=training_digest,
        )

    def add_evaluation(
        self, model: str, *, verdict: str = "pass", workload_id: str | None = None
    ) -> str:
        evaluation_id = new_id("eval")
        self.execute(
            "INSERT INTO evaluation.evaluations (id, project, model, workload_id, digest, state,"
            " verdict, completed_at)"
            " VALUES (:id, :project, :model, :workload_id, '0', 'completed', :verdict, now())",
            id=evaluation_id,
            project=self.context.project,
            model=model,
            workload_id=workload_id,
            verdict=verdict,
        )
        return evaluation_id

    def live(self, workload_id: str) -> Any:
        [row] = self.rows(
            "SELECT * FROM releases.routes_v1 WHERE workload_id = :id", id=workload_id
        )
        return row

    def add_outcome(
        self,
        workload_id: str,
        release: str,
        success: int,
        *,
        arm: str = "live",
        seconds_ago: float = 0.0,
    ) -> None:
        """A label, by the receipt of a request that began *seconds_ago*."""
        began = datetime.now(UTC) + timedelta(milliseconds=5) - timedelta(seconds=seconds_ago)
        receipt = Receipt(
            uuid7(milliseconds=int(began.timestamp() * 1000)),
            self.context.project,
            workload_id,
            release,
            arm,
        )
        self.execute(
            "INSERT INTO feedback.outcomes (project, inference_id, workload_id, assigned_release,"
            " arm, success, source) VALUES (:project, :id, :workload, :release, :arm, :success,"
            " 'success')",
            project=self.context.project,
            id=receipt.sign(b"key"),
            workload=workload_id,
            release=release,
            arm=arm,
            success=success,
        )

    def add_record(
        self,
        workload_id: str,
        release: str,
        *,
        unit: str,
        arm: str = "live",
        status: str = "ok",
        latency_ms: float = 100.0,
        tokens: int = 40,
        seconds_ahead: float = 0.0,
        **flags: bool,
    ) -> None:
        """A record as the shipper writes it; `seconds_ahead` moves the request's clock."""
        at = datetime.now(UTC) + timedelta(seconds=seconds_ahead)
        request = uuid7(milliseconds=int(at.timestamp() * 1000))
        receipt = Receipt(request, self.context.project, workload_id, release, arm)
        with self.spine.open(self.context) as uow:
            uow.session.execute(
                text(
                    "INSERT INTO inference.records (project, request, inference_id, workload_id,"
                    " assigned_release, arm, model, status, fallback, cached, latency_ms,"
                    " input_tokens, output_tokens, unit_hash, door, boot, counter, created_at)"
                    " VALUES (:project, :request, :id, :workload, :release, :arm, 'm', :status,"
                    " :fallback, :cached, :latency, 10, :tokens, :unit, 'http', :request, 0, :at)"
                ),
                {
                    "project": self.context.project,
                    "request": request,
                    "id": receipt.sign(b"key"),
                    "workload": workload_id,
                    "release": release,
                    "arm": arm,
                    "status": status,
                    "fallback": flags.get("fallback", False),
                    "cached": flags.get("cached", False),
                    "latency": latency_ms,
                    "tokens": tokens,
                    "unit": unit,
                    "at": at,
                },
            )


def canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True)
