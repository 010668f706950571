"""The core of inference: both doors ask it, and only it talks to models."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from services.inference.attempts import Attempts
from services.inference.domain.generation import Piece, Usage, join
from services.inference.domain.shapes import DONE, Body, Heading, event
from services.inference.jobs import Job
from services.inference.ports import Scoring
from services.inference.recorder import Page, Recorder
from services.inference.router import Router
from services.inference.run import Run
from services.inference.settings import InferenceSettings
from shared.errors import PerpetuneError, RateLimited


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, or the error of a request that had been assigned to a model."""

    status: int
    body: Body
    headers: Mapping[str, str]


class StreamedAnswer:
    """
    An answer that has begun; close it, whether it was read to the end or not.

    It is remembered as a whole only where it is to be stored.
    """

    def __init__(self, job: Job, run: Run, page: Page) -> None:
        self._job = job
        self._run = run
        self._page = page
        self._heading = _heading(job, run)
        self._heard: dict[int, list[Piece]] = {}
        self.headers = page.headers

    async def events(self) -> AsyncIterator[bytes]:
        """Server-sent events, `[DONE]` last; a failure is an event with an `error`."""
        try:
            async for chunk in self._chunks():
                yield event(chunk)
            self._page.record_answer(self._to_keep())
        except PerpetuneError as error:
            self._page.record_error(error)
            yield event(error.body())
        yield DONE

    async def close(self) -> None:
        """Stop the generation if it still runs, and record it if that was not done."""
        self._page.record_departure()
        await self._run.close()

    async def _chunks(self) -> AsyncIterator[Body]:
        job, heading = self._job, self._heading
        # Clients that ask for the usage are promised the field in every chunk.
        extra: Body = {"usage": None} if job.wants_usage else {}
        opened: set[int] = set()
        async for index, piece in self._run.pieces():
            if index not in opened:
                opened.add(index)
                opening = job.shape.opening(heading, index)
                if opening is not None:
                    yield opening | extra
            self._page.hear(index, piece)
            if job.keeping is not None:
                self._heard.setdefault(index, []).append(piece)
            for chunk in job.shape.chunks(heading, index, piece):
                yield chunk | extra
        if job.wants_usage:
            yield job.shape.usage_chunk(heading, Usage.of(self._run.ends, job.choices))

    def _to_keep(self) -> Body | None:
        if self._job.keeping is None:
            return None
        return _body(self._job, self._run, self._heading, self._heard)


class Core:
    """Answers requests. One per process, in one event loop."""

    def __init__(
        self,
        *,
        router: Router,
        attempts: Attempts,
        scoring: Scoring,
        recorder: Recorder,
        settings: InferenceSettings,
    ) -> None:
        self._router = router
        self._attempts = attempts
        self._scoring = scoring
        self._recorder = recorder
        self._settings = settings
        self._running = 0

    async def answer(self, job: Job, *, total_seconds: float | None = None) -> Answer:
        """
        A whole answer, or the error of the model it was assigned to.

        Args:
            job: What is asked.
            total_seconds: For all attempts and the fallback; the setting when None.

        Raises:
            Missing: No such model.
            RateLimited: This process is full.
        """
        run = await self._assign(job, total_seconds)
        page = self._recorder.open(job, run)
        try:
            return await _whole(job, run, page)
        finally:
            page.record_departure()
            await run.close()

    async def stream(self, job: Job) -> StreamedAnswer | Answer:
        """
        An answer that has begun, or the error why it did not.

        Raises:
            As `answer`.
        """
        run = await self._assign(job, None)
        page = self._recorder.open(job, run)
        try:
            await run.open()
        except PerpetuneError as error:
            await run.close()
            return _refused(page, error)
        except BaseException:
            page.record_departure()
            await run.close()
            raise
        return StreamedAnswer(job, run, page)

    async def _assign(self, job: Job, total_seconds: float | None) -> Run:
        self._admit()
        try:
            target = await self._router.target(job.origin.project, job.model, job.unit)
        except BaseException:
            self._leave()
            raise
        now = asyncio.get_running_loop().time()
        total = total_seconds or self._settings.total_seconds
        run = Run(
            job=job,
            target=target,
            attempts=self._attempts,
            scoring=self._scoring,
            deadline=now + total,
            # The same part of a longer total, as at the queue door.
            attempt_deadline=now
            + total * self._settings.attempt_seconds / self._settings.total_seconds,
        )
        run.on_close(self._leave)
        return run

    def _admit(self) -> None:
        if self._running >= self._settings.max_running:
            raise RateLimited(
                f"This process is answering {self._running} requests already; "
                "repeat after retry-after-ms.",
                code="too_many_requests",
                retry_after=self._settings.admission_retry_milliseconds / 1000,
            )
        self._running += 1

    def _leave(self) -> None:
        self._running -= 1


async def _whole(job: Job, run: Run, page: Page) -> Answer:
    heard: dict[int, list[Piece]] = {}
    try:
        await run.open()
        async for index, piece in run.pieces():
            heard.setdefault(index, []).append(piece)
            page.hear(index, piece)
    except PerpetuneError as error:
        return _refused(page, error)
    body = _body(job, run, _heading(job, run), heard)
    page.record_answer(body)
    return Answer(200, body, page.headers)


def _refused(page: Page, error: PerpetuneError) -> Answer:
    page.record_error(error)
    return Answer(error.status, error.body(), {**page.headers, **error.retry_headers()})


def _body(job: Job, run: Run, heading: Heading, heard: Mapping[int, list[Piece]]) -> Body:
    choices = [join(heard[index]) for index in sorted(heard)]
    return job.shape.body(heading, choices, Usage.of(run.ends, job.choices))


def _heading(job: Job, run: Run) -> Heading:
    return Heading(
        id=f"{job.shape.id_prefix}{job.request.hex}",
        created=int(time.time()),
        model=run.served.model,
    )
