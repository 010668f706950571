"""Asks lines of batches as the HTTP door would, few at once, and calls every outcome an answer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from services.inference.batches.domain.results import Result, repeat_pause, write_body
from services.inference.batches.seats import Seats
from services.inference.core import Answer, Core
from services.inference.embeddings import Embeddings
from services.inference.jobs import Origin, chat_job, completion_job
from services.inference.schemas import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    read_body,
)
from shared.errors import PerpetuneError
from shared.ids import Project
from shared.logging import get_logger

_log = get_logger(__name__)
_BROKEN = "Something broke on our side; the log of the queue door says what."


class Asker:
    """One per process, for all batches together."""

    def __init__(
        self, core: Core, embeddings: Embeddings, *, total_seconds: float, concurrency: int
    ) -> None:
        """
        Args:
            core: Answers chats and completions.
            embeddings: Answers embeddings, in a time of its own.
            total_seconds: For one line of the others, repetitions of the core included.
            concurrency: Lines asked at once; projects share that.
        """
        self._core = core
        self._embeddings = embeddings
        self._total_seconds = total_seconds
        self._seats = Seats(concurrency)

    @asynccontextmanager
    async def answered(
        self, project: Project, endpoint: str, body: dict[str, Any]
    ) -> AsyncIterator[Answer]:
        """
        What *endpoint* answers, to be recorded in the block; an error is an answer as well.

        What may go better later is asked again, and holds up nobody meanwhile. The seat is kept
        until the end of the block: by then the project's next line waits for it, however quick
        they are.
        """
        failures = 0
        while True:
            async with self._seats.taken(project):
                answer = await self._ask(project, endpoint, body)
                failures += 1
                pause = _pause_after(answer, failures)
                if pause is None:
                    yield answer
                    return
            await asyncio.sleep(pause)

    async def _ask(self, project: Project, endpoint: str, body: dict[str, Any]) -> Answer:
        try:
            return await self._by_endpoint(Origin(project, "batch"), endpoint, body)
        except PerpetuneError as error:
            return Answer(error.status, error.body(), error.retry_headers())
        except Exception as error:  # noqa: BLE001 -- one line must not end the batch
            _log.error("batch_line_crashed", error=type(error).__name__, exc_info=error)
            broken = PerpetuneError(_BROKEN, code="internal_error")
            return Answer(broken.status, broken.body(), {})

    async def _by_endpoint(self, origin: Origin, endpoint: str, body: dict[str, Any]) -> Answer:
        match endpoint:
            case "/v1/chat/completions":
                job = chat_job(read_body(ChatRequest, body), origin)
            case "/v1/completions":
                job = completion_job(read_body(CompletionRequest, body), origin)
            case _:
                return await self._embeddings.answer(read_body(EmbeddingRequest, body), origin)
        return await self._core.answer(job, total_seconds=self._total_seconds)


def _pause_after(answer: Answer, failures: int) -> float | None:
    return repeat_pause(
        answer.status,
        answer.body.get("error", {}).get("code"),
        failures,
        retry_after=int(answer.headers.get("retry-after-ms", 0)) / 1000,
        chance=random.random(),
    )


def result_of(answer: Answer, request_id: str) -> Result:
    """
    What is kept of *answer*; for a thread, since that may take a second.

    Args:
        answer: Good or bad.
        request_id: For an answer that has no inference id.
    """
    return Result(
        status=answer.status,
        request_id=answer.headers.get("x-inference-id", request_id),
        body=write_body(answer.body),
    )
