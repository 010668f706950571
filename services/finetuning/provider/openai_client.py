"""Any service that speaks OpenAI's fine-tuning API, through the unmodified `openai` client."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import openai
from openai import Omit, omit
from pydantic import BaseModel

from services.finetuning.provider.configuration import ProviderSpec
from services.finetuning.provider.openai_answers import (
    Checkpoint,
    Event,
    File,
    Job,
    JobEntry,
    Listed,
    left_out,
)
from services.finetuning.provider.openai_errors import mapped_errors, nothing_missing
from services.finetuning.provider.ports import (
    RemoteCheckpoint,
    RemoteEvent,
    RemoteJob,
    Request,
    Wish,
)
from services.finetuning.provider.transport import make_http
from shared.errors import Missing, Rejected, Unavailable

OUR_ID = "perpetune_job"
"""Key of the metadata under which our id travels."""

_PAGE = 100
# A look at a job that made more events since the last leaves the oldest out, and says so.
_MAX_EVENT_PAGES = 50
# So does one that has used this much of the time of its step: checkpoints are still to be read.
_EVENTS_SHARE = 0.6
# What is looked for was made moments ago, so it is among the newest.
_MAX_JOB_PAGES = 3
_TRAINING_ROWS = "application/jsonl"

A = TypeVar("A", bound=BaseModel)


@lru_cache(maxsize=32)
def _client(base_url: str, key: str) -> openai.OpenAI:
    """Its connections are kept; nothing is repeated here, because the steps of a job repeat."""
    return openai.OpenAI(base_url=base_url, api_key=key, max_retries=0, http_client=make_http())


class OpenAIProvider:
    """One conversation with a provider, at an end after *seconds*."""

    def __init__(self, spec: ProviderSpec, *, seconds: float) -> None:
        self._name = spec.name
        self._client = _client(spec.base_url, spec.read_key())
        self._seconds = seconds
        self._ends_at = time.monotonic() + seconds

    def find_files(self, filename: str) -> list[str]:
        try:
            page = self._ask(
                Listed,
                self._client.files.with_raw_response.list,
                purpose="fine-tune",
                order="desc",
                limit=_PAGE,
            )
        except Missing:
            return []
        return [file.id for file in page.items(File) if file.filename == filename]

    def upload(self, path: Path, filename: str) -> str:
        with path.open("rb") as rows, nothing_missing():
            return self._ask(
                File,
                self._client.files.with_raw_response.create,
                file=(filename, rows, _TRAINING_ROWS),
                purpose="fine-tune",
            ).id

    def delete_file(self, file_id: str) -> None:
        try:
            self._call(self._client.files.with_raw_response.delete, file_id)
        except Missing:
            return

    def find_jobs(self, our_id: str, training_file: str) -> list[RemoteJob]:
        # A service that knows no metadata ignores the filter; the file is known to all.
        return [
            job.told()
            for job in self._newest_jobs(our_id)
            if job.is_for(our_id, training_file, key=OUR_ID)
        ]

    def create_job(self, request: Request) -> RemoteJob:
        numbers = dict(request.hyperparameters)
        with nothing_missing():
            return self._ask(
                Job,
                self._client.fine_tuning.jobs.with_raw_response.create,
                model=request.model,
                training_file=request.training_file,
                validation_file=_or_omit(request.validation_file),
                method={"type": request.method, request.method: {"hyperparameters": numbers}},
                suffix=_or_omit(request.suffix),
                seed=request.seed,
                metadata={OUR_ID: request.our_id},
                # Who knows it makes one job of an attempt that we gave up and the next.
                extra_headers={"Idempotency-Key": request.our_id},
            ).told()

    def load_job(self, job_id: str) -> RemoteJob:
        return self._ask(
            Job, self._client.fine_tuning.jobs.with_raw_response.retrieve, job_id
        ).told()

    def ask(self, job_id: str, wish: Wish) -> RemoteJob:
        jobs = self._client.fine_tuning.jobs.with_raw_response
        act = {"cancel": jobs.cancel, "pause": jobs.pause, "resume": jobs.resume}[wish]
        return self._ask(Job, act, job_id).told()

    def list_events(self, job_id: str, known: Collection[str]) -> list[RemoteEvent]:
        found: list[RemoteEvent] = []
        stop_at = self._ends_at - (1 - _EVENTS_SHARE) * self._seconds
        for _ in range(_MAX_EVENT_PAGES):
            page = self._list_events(job_id, after=found[-1].id if found else omit)
            events = page.items(Event)
            for event in events:
                if event.id in known:
                    return found[::-1]
                found.append(event.told())
            if not events or not page.has_more:
                return found[::-1]
            if time.monotonic() > stop_at:
                break
        return [left_out(found[-1]), *found[::-1]]

    def _list_events(self, job_id: str, after: str | Omit) -> Listed:
        try:
            return self._ask(
                Listed,
                self._client.fine_tuning.jobs.with_raw_response.list_events,
                job_id,
                after=after,
                limit=_PAGE,
            )
        except (Missing, Rejected):
            # Not every service tells its events.
            return Listed(data=[])

    def list_checkpoints(self, job_id: str) -> list[RemoteCheckpoint]:
        try:
            page = self._ask(
                Listed,
                self._client.fine_tuning.jobs.checkpoints.with_raw_response.list,
                job_id,
                limit=_PAGE,
            )
        except (Missing, Rejected):
            return []
        return sorted((each.told() for each in page.items(Checkpoint)), key=lambda told: told.step)

    def require_model(self, model: str) -> None:
        self._call(self._client.models.with_raw_response.retrieve, model)

    def read_file(self, file_id: str) -> bytes:
        return self._call(self._client.files.with_raw_response.content, file_id)

    def _newest_jobs(self, our_id: str) -> Iterator[JobEntry]:
        after: str | Omit = omit
        for _ in range(_MAX_JOB_PAGES):
            page = self._ask(
                Listed,
                self._client.fine_tuning.jobs.with_raw_response.list,
                metadata={OUR_ID: our_id},
                after=after,
                limit=_PAGE,
            )
            jobs = page.items(JobEntry)
            yield from jobs
            if not jobs or not page.has_more:
                return
            after = jobs[-1].id

    def _ask(self, kind: type[A], act: Callable[..., Any], *what: str, **how: Any) -> A:  # noqa: ANN401 - the client's own parameters
        content = self._call(act, *what, **how)
        with mapped_errors(self._name):
            return kind.model_validate_json(content)

    def _call(self, act: Callable[..., Any], *what: str, **how: Any) -> bytes:  # noqa: ANN401 - as above
        seconds = self._ends_at - time.monotonic()
        if seconds <= 0:
            raise Unavailable(
                f"The provider '{self._name}' is slow; there was no time left to ask on.",
                code="provider_timeout",
            )
        with mapped_errors(self._name):
            answer = act(*what, **how, timeout=seconds)
            content: bytes = answer.http_response.content
            return content


def _or_omit(value: str | None) -> str | Omit:
    return omit if value is None else value
