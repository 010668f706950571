"""One batch under one lease: its file is checked, its lines are asked, its files are written."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeVar

from services.inference.batches import repository, working
from services.inference.batches.asking import Asker, result_of
from services.inference.batches.domain.questions import FileError, Question, check_questions
from services.inference.batches.domain.results import (
    CANCELLED,
    EXPIRED,
    Result,
    Tokens,
    rest_seconds,
)
from services.inference.batches.domain.states import TERMINAL, State
from services.inference.batches.files import lines_of, questions_of, write_files
from services.inference.batches.models import Batch
from services.inference.batches.working import NOTHING, Written
from services.inference.core import Answer
from services.inference.settings import InferenceSettings
from shared.blobs import BlobStore
from shared.context import Context
from shared.db import UnitOfWork, Units
from shared.errors import Corrupt, Invalid, LeaseLost, Missing, PerpetuneError, Unavailable
from shared.ids import new_id
from shared.logging import get_logger
from shared.spine import leases
from shared.spine.leases import Lease

_log = get_logger(__name__)
T = TypeVar("T")

_ACTOR = "process:door"
_AGAIN_SECONDS = 1.0
# Answers that are in memory at once while files are written; one of 2,048 embeddings has 25 MB.
_PAGE = 8


@dataclass(frozen=True)
class Workplace:
    """
    What a door works with.

    Attributes:
        units: As the role `app`; every write is guarded by the lease.
        spine: As the role `spine`, to give back.
        files: A thread for reading and writing whole files.
        threads: For all else that blocks; those of the queue door beside it stay free.
        lease_seconds: How long a lease holds after a look.
    """

    asker: Asker
    units: Units
    spine: Units
    blobs: BlobStore
    files: Executor
    threads: Executor
    settings: InferenceSettings
    lease_seconds: float

    async def in_thread(self, act: Callable[..., T], *what: Any) -> T:  # noqa: ANN401 - of any act
        return await asyncio.get_running_loop().run_in_executor(self.threads, act, *what)


async def work_on(place: Workplace, lease: Lease) -> None:
    """Bring the batch under *lease* to its end, or give it back; cancel this to stop before."""
    work = _Work(place, lease)
    try:
        await work.carry_out()
    except asyncio.CancelledError:
        await work.give_back()
        raise


class _Work:
    """The phases of one batch; each may be done again from its start without harm."""

    def __init__(self, place: Workplace, lease: Lease) -> None:
        self._place = place
        self._lease = lease
        self._context = Context.root(lease.project, _ACTOR)
        self._attempts = 0

    async def carry_out(self) -> None:
        try:
            await self._go_through()
        except LeaseLost:
            _log.info("batch_taken_away", batch_id=self._lease.subject)
        except (Invalid, Missing, Corrupt) as error:
            await self._fail(error)
        except PerpetuneError as error:
            await self._put_off(error)

    async def give_back(self) -> None:
        """Let another door have it at once."""
        await self._release(self._let_go)

    async def _put_off(self, error: PerpetuneError) -> None:
        """Make way for other batches; what stands in the way again and again fails this one."""
        settings = self._place.settings
        is_passing = isinstance(error, Unavailable)
        if not is_passing and self._attempts >= settings.batch_max_attempts:
            await self._fail(error)
            return
        seconds = rest_seconds(
            1 if is_passing else self._attempts, first=settings.batch_rest_seconds
        )
        _log.warning(
            "batch_put_off", batch_id=self._lease.subject, seconds=seconds, reason=error.message
        )
        await self._release(lambda: self._set_aside(seconds, is_forgiven=is_passing))

    async def _release(self, act: Callable[[], None]) -> None:
        """Should that fail, the lease runs out."""
        try:
            await self._place.in_thread(act)
        except (LeaseLost, Unavailable) as error:
            _log.info("batch_not_given_back", batch_id=self._lease.subject, reason=error.message)

    def _let_go(self) -> None:
        self._forgive_attempt()
        with self._place.spine.open(self._context) as uow:
            leases.let_go(uow.session, self._lease)

    def _set_aside(self, seconds: float, *, is_forgiven: bool) -> None:
        if is_forgiven:
            self._forgive_attempt()
        with self._place.spine.open(self._context) as uow:
            leases.set_aside(uow.session, self._lease, seconds)

    def _forgive_attempt(self) -> None:
        with self._place.units.open(self._context) as uow:
            working.forgive_attempt(uow, self._lease)

    async def _go_through(self) -> None:
        batch = await self._write(self._start)
        while batch is not None and batch.state not in TERMINAL:
            match batch.state:
                case State.VALIDATING:
                    await self._while_it_lasts(batch, self._check(batch))
                case State.IN_PROGRESS:
                    await self._while_it_lasts(batch, self._ask_all(batch))
                    await self._write(lambda uow: working.close_questions(uow, self._lease))
                case _:
                    await self._while_it_lasts(batch, self._write_down(batch))
            batch = await self._write(lambda uow: repository.load_batch(uow, self._lease.subject))

    def _start(self, uow: UnitOfWork) -> Batch | None:
        most = self._place.settings.batch_max_attempts
        batch = working.start_batch(uow, self._lease, max_attempts=most)
        if batch is not None:
            self._attempts = batch.attempts + 1
            self._context = Context(
                self._lease.project, _ACTOR, batch.correlation_id, causation_id=batch.id
            )
        return batch

    async def _while_it_lasts(self, batch: Batch, work: Coroutine[Any, Any, None]) -> None:
        """Do *work* until it is done, or until the batch has moved on or is out of time."""
        tasks = [asyncio.create_task(work), asyncio.create_task(self._watch(batch))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            ended = next(task for task in tasks if task.done())
        finally:
            await _stop(tasks)
        ended.result()

    async def _watch(self, batch: Batch) -> None:
        """Return when the batch is not as it was; the lease is held on meanwhile."""
        seconds = self._place.lease_seconds
        state = State(batch.state)
        while await self._write(
            lambda uow: working.still_lasts(uow, self._lease, state, seconds=seconds)
        ):
            await self._pause()

    async def _check(self, batch: Batch) -> None:
        most = self._place.settings.batch_max_requests
        checked = await self._in_files(
            lambda given_up: check_questions(
                lines_of(self._place.blobs, batch, given_up), batch.endpoint, most=most
            )
        )
        await self._write(lambda uow: working.accept_file(uow, self._lease, checked))

    async def _ask_all(self, batch: Batch) -> None:
        answered = await self._write(lambda uow: repository.answered_lines(uow, batch.id))
        every = questions_of(self._place.blobs, batch, threading.Event())
        unanswered = (each for each in every if each.line not in answered)
        questions = _Questions(self._place, unanswered)
        # As many as may be asked at once, so that a batch that is alone has all of that.
        count = self._place.settings.batch_concurrency
        askers = [asyncio.create_task(self._ask_some(batch, questions)) for _ in range(count)]
        try:
            await asyncio.gather(*askers)
        finally:
            await _stop(askers)

    async def _ask_some(self, batch: Batch, questions: _Questions) -> None:
        while (question := await questions.next()) is not None:
            async with self._place.asker.answered(
                self._lease.project, batch.endpoint, question.body
            ) as answer:
                await self._record(question.line, answer)

    async def _record(self, line: int, answer: Answer) -> None:
        result = await self._place.in_thread(result_of, answer, new_id("req"))
        tokens = Tokens.of(answer.body)
        await self._write(lambda uow: working.record_result(uow, self._lease, line, result, tokens))

    async def _write_down(self, batch: Batch) -> None:
        if batch.written_at is None:
            written = await self._written(batch)
            await self._write(lambda uow: working.record_files(uow, self._lease, written))
        await self._listed()
        await self._forget_results()
        await self._write(lambda uow: working.end_batch(uow, self._lease))

    async def _forget_results(self) -> None:
        while await self._write(lambda uow: working.forget_results(uow, self._lease)):
            pass

    async def _listed(self) -> None:
        """
        Wait until the files can be fetched.

        Raises:
            Unavailable: That takes its time; another batch may have this one's place.
        """
        ends_at = time.monotonic() + self._place.settings.batch_rest_seconds
        while not await self._write(lambda uow: working.are_files_listed(uow, self._lease)):
            if time.monotonic() >= ends_at:
                raise Unavailable("The files are not listed yet.", code="files_not_listed")
            await self._pause()

    async def _written(self, batch: Batch) -> Written:
        if batch.in_progress_at is None:
            return NOTHING
        silence = CANCELLED if batch.state == State.CANCELLING else EXPIRED
        return await self._in_files(
            lambda given_up: write_files(
                self._place.blobs,
                batch,
                questions_of(self._place.blobs, batch, given_up),
                self._results,
                silence=silence,
            )
        )

    def _results(self, after: int) -> list[tuple[int, Result]]:
        with self._place.units.open(self._context) as uow:
            return repository.list_results(uow, self._lease.subject, after=after, limit=_PAGE)

    async def _in_files(self, act: Callable[[threading.Event], T]) -> T:
        """Do *act* in a thread; it is told when nobody waits for it any more."""
        given_up = threading.Event()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._place.files, act, given_up)
        finally:
            given_up.set()

    async def _fail(self, error: PerpetuneError) -> None:
        """End a batch that cannot go on: its file is gone, or there is never room for another."""
        found = FileError(error.code, error.message)
        try:
            await self._forget_results()
            await self._write(lambda uow: working.fail_batch(uow, self._lease, [found]))
        except LeaseLost:
            _log.info("batch_taken_away", batch_id=self._lease.subject)

    async def _pause(self) -> None:
        await asyncio.sleep(self._place.settings.batch_poll_seconds)

    async def _write(self, act: Callable[[UnitOfWork], T]) -> T:
        """One transaction, repeated while Postgres is away; every act bears that."""
        while True:
            try:
                return await self._place.in_thread(self._write_once, act)
            except Unavailable as error:
                _log.warning("batch_waits", batch_id=self._lease.subject, reason=error.message)
                await asyncio.sleep(_AGAIN_SECONDS)

    def _write_once(self, act: Callable[[UnitOfWork], T]) -> T:
        with self._place.units.open(self._context) as uow:
            return act(uow)


class _Questions:
    """Requests one by one, for several who ask; read in a thread, since a line may be long."""

    def __init__(self, place: Workplace, questions: Iterator[Question]) -> None:
        self._place = place
        self._questions = questions
        self._lock = asyncio.Lock()

    async def next(self) -> Question | None:
        async with self._lock:
            return await self._place.in_thread(next, self._questions, None)


async def _stop(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
