"""Receipts and records: what a caller can prove, and what the house remembers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from services.inference.domain.generation import Piece
from services.inference.domain.routing import Served, Target
from services.inference.domain.shapes import Body
from services.inference.jobs import Job
from services.inference.records import Content, Record, StoredCompletion, hash_unit
from services.inference.run import Run
from services.inference.spool import Spool
from shared.errors import PerpetuneError
from shared.ids import InferenceId, Project
from shared.receipts import Receipt
from shared.rotation import RotatingSecret

_DEPARTED = "client_closed"


def answer_headers(
    inference_id: InferenceId, target: Target, served: Served, *, is_fallback: bool
) -> dict[str, str]:
    """What every answer of both doors says about itself."""
    return {
        "x-inference-id": inference_id,
        "x-model": served.model,
        "x-release": target.release_id or "",
        "x-fallback": "true" if is_fallback else "false",
    }


class Recorder:
    """Opens a page for each request and writes it to the spool when the request is over."""

    def __init__(self, spool: Spool, key: RotatingSecret) -> None:
        """
        Args:
            spool: Where records go.
            key: Its value in use signs receipts, its oldest one hashes units.
        """
        self._spool = spool
        self._key = key

    def open(self, job: Job, run: Run) -> Page:
        """The page of a request that was assigned just now."""
        project = job.origin.project
        # A unit that changed its name would be counted a second time by a canary that runs.
        unit_hash = hash_unit(self._key.values.accepted[-1].encode(), project, job.unit)
        inference_id = self.sign(project, job.request, run.target)
        return Page(self._spool, job, run, inference_id, unit_hash)

    def sign(self, project: Project, request: UUID, target: Target) -> InferenceId:
        """The id of a request, which says what it was assigned to."""
        return Receipt(
            request=request,
            project=project,
            workload_id=target.workload_id,
            release_id=target.release_id,
            arm=target.arm,
        ).sign(self._key.values.current.encode())


@dataclass
class Page:
    """What becomes of one request. Written once; later calls change nothing."""

    spool: Spool
    job: Job
    run: Run
    inference_id: InferenceId
    unit_hash: str
    _began: float = field(default_factory=time.perf_counter)
    _heard: list[str] = field(default_factory=list)
    _is_written: bool = False

    @property
    def headers(self) -> Mapping[str, str]:
        """See `answer_headers`."""
        run = self.run
        return answer_headers(
            self.inference_id, run.target, run.served, is_fallback=run.is_fallback
        )

    def hear(self, index: int, piece: Piece) -> None:
        """Remember a piece of the first choice, if this workload's contents are kept."""
        if index == 0 and self.run.target.capture_content:
            self._heard.append(piece.text)

    def record_answer(self, body: Body | None) -> None:
        """
        The request was answered to the end.

        Args:
            body: The whole answer; None where it is not to be stored.
        """
        self._write(None, stored=self._stored(body))

    def record_error(self, error: PerpetuneError) -> None:
        """The request failed. What is wrong with the request itself is no record."""
        if error.status >= 500:
            self._write(error.code, is_failure=True)
        self._is_written = True

    def record_departure(self) -> None:
        """The client went away before the end; the model is not to blame."""
        self._write(_DEPARTED)

    def _write(
        self,
        code: str | None,
        *,
        is_failure: bool = False,
        stored: StoredCompletion | None = None,
    ) -> None:
        if self._is_written:
            return
        self._is_written = True
        job, run = self.job, self.run
        ends = run.ends.values()
        record = Record(
            project=job.origin.project,
            request=job.request.hex,
            inference_id=self.inference_id,
            workload_id=run.target.workload_id,
            assigned_release=run.target.release_id,
            arm=run.target.arm,
            model=run.served.model,
            status="error" if is_failure else "ok",
            error_code=code,
            fallback=run.is_fallback,
            cached=False,
            latency_ms=round((time.perf_counter() - self._began) * 1000, 3),
            input_tokens=sum(end.input_tokens for end in ends),
            output_tokens=sum(end.output_tokens for end in ends),
            unit_hash=self.unit_hash,
            door=job.origin.door,
        )
        self.spool.append(record, self._content(), stored)

    def _content(self) -> Content | None:
        if not self.run.target.capture_content or not self._heard:
            return None
        return Content(self.job.prompting.messages, "".join(self._heard))

    def _stored(self, body: Body | None) -> StoredCompletion | None:
        job = self.job
        if job.keeping is None or body is None:
            return None
        return StoredCompletion(job.model, job.prompting.messages, body, job.keeping.metadata)
