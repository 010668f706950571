"""The simulated fine-tuning service: what it remembers, and how its jobs go on."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from shared.testing.provider import protocol
from shared.testing.provider.protocol import route
from shared.testing.upstream.acts import Act
from shared.testing.upstream.exchange import Exchange, Payload
from shared.testing.upstream.scripted import Scripted

KEY = "sk-simulated-0123456789"
STEPS = 3
_ENDED = ("succeeded", "failed", "cancelled")
_MISSING = protocol.error(404, "not_found")


@dataclass(frozen=True, slots=True)
class Call:
    """
    One request.

    Attributes:
        at: Monotonic seconds of its arrival.
        subject: Id in its path; empty where there is none.
        body: What was sent as JSON.
        key: Its `Idempotency-Key`; jobs are made anew whatever it says.
    """

    at: float
    operation: str
    subject: str
    body: dict[str, Any]
    key: str | None


class TrainingService(Scripted):
    """
    Speaks OpenAI's fine-tuning API. A job is a stage further at each look at it, and stays at the
    last one.

    Attributes:
        stages: Of every job made from now on.
        created: How often a job was made for each of our ids; a second time is a second effect.
        files: Name and bytes of every file that is there, by id.
        jobs: Every job, by id, oldest first.
        knows_metadata: Whether jobs show and filter by what was sent with them.
    """

    def __init__(self, *, port: int = 0) -> None:
        super().__init__(port=port)
        self.stages: Sequence[str] = ("queued", "running", "succeeded")
        self.created: Counter[str] = Counter()
        self.files: dict[str, tuple[str, bytes]] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.knows_metadata = True
        self._calls: list[Call] = []
        self._made = 0
        self._stages: dict[str, list[str]] = {}
        self._events: dict[str, list[dict[str, Any]]] = {}

    def calls(self, on: str | None = None) -> list[Call]:
        """Requests so far, oldest first."""
        with self._lock:
            return [call for call in self._calls if on in {None, call.operation}]

    def go_on(self, *stages: str) -> None:
        """All jobs pass through these stages from now on."""
        with self._lock:
            for left in self._stages.values():
                left.extend(stages)

    def _exchange(self, door: BaseHTTPRequestHandler, method: str) -> tuple[Exchange, Act]:
        parts = urlsplit(door.path)
        content = door.rfile.read(int(door.headers.get("content-length") or 0))
        operation, subject = route(method, unquote(parts.path))
        query = dict(parse_qsl(parts.query))
        is_form = operation == "upload"
        body: dict[str, Any] = {} if is_form or not content else json.loads(content)
        form = (door.headers["content-type"] or "", content)
        is_known = door.headers["authorization"] == f"Bearer {KEY}"
        with self._lock:
            key = door.headers["idempotency-key"]
            self._calls.append(Call(time.monotonic(), operation, subject, body, key))
            act = self._choose(operation, subject)

        def perform() -> Payload:
            if not is_known:
                return protocol.error(401, "invalid_api_key", f"{KEY[:8]} is no key")
            with self._lock:
                if is_form:
                    return self._upload(*form)
                return self._perform(operation, subject, body, query)

        exchange = Exchange(
            operation=operation,
            model=subject,
            body=body,
            perform=perform,
            handler=door,
            is_closing=self._closing(),
        )
        return exchange, act

    def _perform(
        self, operation: str, subject: str, body: dict[str, Any], query: dict[str, str]
    ) -> Payload:
        if operation == "create":
            return self._create(body)
        if operation == "list_jobs":
            return protocol.page([*self._found(query)][::-1], query)
        of_file: dict[str, Callable[[], Payload]] = {
            "list_files": lambda: protocol.page(self._file_objects()[::-1], query),
            "delete_file": lambda: self._delete(subject),
            "content": lambda: self._content(subject),
            "model": lambda: self._model(subject),
        }
        if operation in of_file:
            return of_file[operation]()
        job = self.jobs.get(subject)
        return _MISSING if job is None else self._of_job(operation, job, query)

    def _upload(self, content_type: str, content: bytes) -> Payload:
        name, rows = protocol.read_upload(content_type, content)
        file_id = self._new_id("file")
        self.files[file_id] = (name, rows)
        return Payload.of(self._file_objects()[-1])

    def _file_objects(self) -> list[dict[str, Any]]:
        return [
            {"id": file_id, "object": "file", "filename": name, "bytes": len(rows)}
            for file_id, (name, rows) in self.files.items()
        ]

    def _delete(self, file_id: str) -> Payload:
        gone = self.files.pop(file_id, None)
        return Payload.of({"id": file_id, "deleted": True}) if gone else _MISSING

    def _content(self, file_id: str) -> Payload:
        if file_id not in {f for job in self.jobs.values() for f in job["result_files"]}:
            return _MISSING
        lines = ["step,train_loss", *(f"{step},{1.0 / step}" for step in range(1, STEPS + 1))]
        return Payload(200, ("\n".join(lines).encode(),))

    def _model(self, model: str) -> Payload:
        made = {job["fine_tuned_model"] for job in self.jobs.values()}
        return Payload.of({"id": model, "object": "model"}) if model in made else _MISSING

    def _create(self, body: dict[str, Any]) -> Payload:
        if body["training_file"] not in self.files:
            return protocol.error(400, "invalid_training_file")
        job_id = self._new_id("ftjob")
        metadata = body.get("metadata") or {}
        self.created[metadata.get("perpetune_job", "")] += 1
        self.jobs[job_id] = {
            "id": job_id,
            "object": "fine_tuning.job",
            "status": "validating_files",
            "model": body["model"],
            "training_file": body["training_file"],
            "validation_file": body.get("validation_file"),
            "method": body.get("method"),
            "seed": body.get("seed"),
            "metadata": metadata if self.knows_metadata else None,
            "fine_tuned_model": None,
            "trained_tokens": None,
            "result_files": [],
            "error": None,
        }
        self._stages[job_id] = list(self.stages)
        self._events[job_id] = [protocol.event(0, job_id, f"Created fine-tuning job: {job_id}")]
        return Payload.of(self.jobs[job_id])

    def _found(self, query: dict[str, str]) -> list[dict[str, Any]]:
        wanted = query.get("metadata[perpetune_job]")
        if wanted is None or not self.knows_metadata:
            return list(self.jobs.values())
        return [j for j in self.jobs.values() if j["metadata"].get("perpetune_job") == wanted]

    def _of_job(self, operation: str, job: dict[str, Any], query: dict[str, str]) -> Payload:
        if operation == "events":
            return protocol.page(self._events[job["id"]][::-1], query)
        if operation == "checkpoints":
            is_made = job["status"] == "succeeded"
            made = [protocol.checkpoint(job["id"], STEPS - 1)] if is_made else []
            return protocol.page(made, query)
        if operation == "retrieve":
            if left := self._stages[job["id"]]:
                self._enter(job, left.pop(0))
            return Payload.of(job)
        target = {"cancel": "cancelled", "pause": "paused", "resume": "queued"}[operation]
        if job["status"] in _ENDED:
            return protocol.error(400, "invalid_state", f"The job is {job['status']}.")
        self._stages[job["id"]] = []
        self._enter(job, target)
        return Payload.of(job)

    def _enter(self, job: dict[str, Any], status: str) -> None:
        if job["status"] in _ENDED:
            return
        job["status"] = status
        events = self._events[job["id"]]
        events.append(protocol.event(len(events), job["id"], f"The job is {status}"))
        if status == "succeeded":
            self._succeed(job, events)
        if status == "failed":
            job["error"] = {"code": "training_failed", "message": "diverged", "param": None}

    def _succeed(self, job: dict[str, Any], events: list[dict[str, Any]]) -> None:
        for step in range(1, STEPS + 1):
            loss = {"step": step, "total_steps": STEPS, "train_loss": 1.0 / step}
            events.append(protocol.event(len(events), job["id"], f"Step {step}/{STEPS}", **loss))
        numbers = {"n_epochs": 1, "batch_size": 4, "learning_rate_multiplier": 1.8}
        kind = job["method"]["type"]
        job |= {
            "fine_tuned_model": f"ft:{job['model']}:sim::{job['id'][-8:]}",
            "trained_tokens": 1234,
            "result_files": [self._new_id("file")],
            "method": {"type": kind, kind: {"hyperparameters": numbers}},
        }

    def _new_id(self, kind: str) -> str:
        self._made += 1
        return f"{kind}-{self._made:08d}"
