"""One job under one lease: start the child, write down what it says, end with it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from services.finetuning import repository
from services.finetuning.domain.states import TERMINAL
from services.finetuning.models import Job
from services.finetuning.service import training
from services.finetuning.service.ending import fail_job
from services.finetuning.service.training import Outcome, Pace, Recorded, Step
from services.finetuning.settings import FinetuningSettings
from services.finetuning.trainer import folder as folders
from services.finetuning.trainer.child import Child
from services.finetuning.trainer.lines import (
    Checkpointed,
    Failed,
    Finished,
    Line,
    Loaded,
    Referenced,
    Stepped,
    Stopped,
    Warned,
    read_line,
)
from services.finetuning.trainer.replay import missed_lines
from shared.blobs import BlobStore
from shared.context import Context
from shared.db import UnitOfWork, Units
from shared.errors import Conflict, Corrupt, LeaseLost, Missing, StorageFull, Unavailable
from shared.logging import get_logger
from shared.spine import leases
from shared.spine.leases import Lease

log = get_logger(__name__)

T = TypeVar("T")

_RETRY_SECONDS = 1.0
_SILENCE_FACTOR = 3


@dataclass(frozen=True)
class Workplace:
    """
    What a trainer works with.

    Attributes:
        units: As the role `app`; every write is guarded by the lease.
        spine: As the role `spine`, to claim and give back.
        home: Folder for the folders of jobs.
        lease_seconds: How long a lease holds after a step, at least.
        stopping: Set when the process is told to end.
    """

    units: Units
    spine: Units
    blobs: BlobStore
    settings: FinetuningSettings
    home: Path
    lease_seconds: float
    stopping: threading.Event


def run_job(place: Workplace, lease: Lease) -> bool:
    """
    Train the job under *lease* until it ends, fails, is cancelled, or the process is to stop.

    Returns:
        False when the job was given back unfinished.
    """
    context = Context.root(lease.project, "process:trainer")
    folder = place.home.resolve() / lease.subject
    try:
        with folders.held(folder) as lock:
            with place.units.open(context) as uow:
                job = training.start_job(uow, lease, max_attempts=place.settings.max_attempts)
            if job is None:
                folders.discard(folder)
                return True
            return _Run(place, lease, job, folder).carry_out(lock)
    except LeaseLost:
        log.info("job_taken_away", job_id=lease.subject)
        return True
    except Conflict as error:
        log.warning("job_given_back", job_id=lease.subject, reason=error.message)
        _let_go(place, context, lease)
        return False


class _Run:
    """The conversation with one child."""

    def __init__(self, place: Workplace, lease: Lease, job: Job, folder: Path) -> None:
        self._place = place
        self._lease = lease
        self._job = job
        self._folder = folder
        self._context = Context(
            lease.project, "process:trainer", job.correlation_id, causation_id=job.id
        )
        self._pace = Pace(since=job.created_at, first_step=0)
        self._allowed_silence = place.settings.first_step_seconds
        self._heard_at = time.monotonic()

    def carry_out(self, lock: int) -> bool:
        try:
            folders.prepare(self._folder, self._job, self._place.blobs, self._place.settings)
            settings = self._place.settings
            with Child(
                self._folder,
                lock,
                log=self._folder / folders.CHILD_LOG,
                nice=settings.nice,
                stop_seconds=settings.stop_seconds,
            ) as child:
                has_ended = self._follow(child)
        except LeaseLost:
            self._discard_if_over()
            raise
        except (Missing, Corrupt, StorageFull) as error:
            self._end(error.code, error.message)
            has_ended = True
        except OSError as error:
            log.error("job_folder_failed", job_id=self._job.id, reason=str(error))  # noqa: TRY400
            has_ended = False
        if has_ended:
            folders.discard(self._folder)
        else:
            _let_go(self._place, self._context, self._lease)
        return has_ended

    def _follow(self, child: Child) -> bool:
        """Whether the job has ended; False when its child did, or has to."""
        log.info("child_started", job_id=self._job.id, pid=child.pid)
        for text in child.lines(self._place.settings.watch_seconds):
            if self._place.stopping.is_set():
                child.stop()
                self._write(lambda uow: training.forgive_attempt(uow, self._lease))
                return False
            if text is None:
                if time.monotonic() - self._heard_at > self._allowed_silence:
                    log.error("child_silent", job_id=self._job.id, seconds=self._allowed_silence)
                    return False
                self._look()
            elif (line := read_line(text)) is not None and self._hear(line):
                return True
        log.error(
            "child_died",
            job_id=self._job.id,
            exit_code=child.stop(),
            reason=folders.last_words(self._folder),
        )
        return False

    def _hear(self, line: Line) -> bool:
        """Write down one line; whether the job has ended with it."""
        match line:
            case Loaded():
                self._begin(line)
            case Referenced():
                # Nothing to write down; it is alive.
                self._write(lambda _: None)
            case Stepped():
                self._expect_next_step()
                self._record_step(line)
            case Warned():
                self._write(
                    lambda uow: training.record_warning(uow, self._lease, line.code, line.message)
                )
            case Checkpointed():
                self._record_checkpoint(line)
            case Finished():
                self._complete(line)
                return True
            case Failed():
                self._end(line.code, line.message)
                return True
            case Stopped():
                return False
        self._heard_at = time.monotonic()
        return False

    def _begin(self, line: Loaded) -> None:
        def begin(uow: UnitOfWork) -> Recorded:
            self._pace = Pace(since=uow.now, first_step=line.resumed_from_step)
            return training.find_recorded(uow, self._lease)

        recorded = self._write(begin)
        for missed in missed_lines(self._folder, recorded):
            match missed:
                case Stepped():
                    self._record_step(missed)
                case Checkpointed():
                    self._record_checkpoint(missed)

    def _record_step(self, line: Stepped) -> None:
        step = Step(line.step, line.total_steps, line.metrics)
        self._write(lambda uow: training.record_step(uow, self._lease, step, self._pace))

    def _expect_next_step(self) -> None:
        """After the first step the silences so far say how long one may be."""
        silence = _SILENCE_FACTOR * (time.monotonic() - self._heard_at)
        if self._allowed_silence == self._place.settings.first_step_seconds:
            self._allowed_silence = self._place.lease_seconds
        self._allowed_silence = max(self._allowed_silence, silence)

    def _record_checkpoint(self, line: Checkpointed) -> None:
        weights = self._patiently(
            lambda: folders.store_weights(self._place.blobs, self._lease.project, line.path)
        )
        self._write(
            lambda uow: training.record_checkpoint(
                uow, self._lease, line.step, line.metrics, weights
            )
        )

    def _complete(self, line: Finished) -> None:
        blobs, project = self._place.blobs, self._lease.project
        outcome = Outcome(
            step=line.best_step,
            weights=self._patiently(lambda: folders.store_weights(blobs, project, line.path)),
            trained_tokens=line.trained_tokens,
            result_digest=self._patiently(lambda: blobs.put_path(project, line.result_csv)),
            result_bytes=line.result_csv.stat().st_size,
        )

        def complete() -> None:
            with self._place.units.open(self._context) as uow:
                if line.stopped_early:
                    training.record_early_stop(uow, self._lease, line.step, line.best_step)
                training.complete_job(uow, self._lease, outcome)

        self._patiently(complete)

    def _end(self, code: str, message: str) -> None:
        def end() -> None:
            with self._place.units.open(self._context) as uow:
                leases.guard(uow, self._lease)
                fail_job(uow, self._job.id, code=code, message=message)

        self._patiently(end)

    def _write(self, act: Callable[[UnitOfWork], T]) -> T:
        """One guarded transaction that also holds the lease on: progress is the heartbeat."""

        def write() -> T:
            with self._place.units.open(self._context) as uow:
                leases.guard(uow, self._lease)
                written = act(uow)
                leases.renew(uow.session, self._lease, self._allowed_silence)
                return written

        return self._patiently(write)

    def _look(self) -> None:
        """Notice a cancellation between two lines, without holding the lease on."""

        def look() -> None:
            with self._place.units.open(self._context) as uow:
                leases.guard(uow, self._lease)

        self._patiently(look)

    def _patiently(self, act: Callable[[], T]) -> T:
        """Repeat while a part we depend on is away; every act may be repeated without harm."""
        while True:
            try:
                return act()
            except Unavailable as error:
                log.warning("trainer_waits", job_id=self._job.id, reason=error.message)
                if self._place.stopping.wait(_RETRY_SECONDS):
                    raise

    def _discard_if_over(self) -> None:
        with self._place.units.open(self._context) as uow:
            is_over = repository.load_job(uow, self._job.id).state in TERMINAL
        if is_over:
            folders.discard(self._folder)


def _let_go(place: Workplace, context: Context, lease: Lease) -> None:
    with place.spine.open(replace(context, actor="process:trainer")) as uow:
        leases.let_go(uow.session, lease)
