"""Takes up batches, one of each project at a time, and lets them share the models."""

from __future__ import annotations

import asyncio
import os
import socket
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy.exc import SQLAlchemyError

from services.inference.batches.asking import Asker
from services.inference.batches.service import LEASE_KIND
from services.inference.batches.work import Workplace, work_on
from services.inference.settings import InferenceSettings
from shared.blobs import BlobStore
from shared.context import Context
from shared.db import Units
from shared.errors import Unavailable
from shared.ids import Project
from shared.logging import get_logger
from shared.spine import leases
from shared.spine.leases import Lease

_log = get_logger(__name__)
_ACTOR = Context.root(Project(""), "process:door")


class BatchRunner:
    """
    Works on batches until it is told to stop.

    Every batch has as many lines at the asker as that asks at once, and there projects share the
    seats: each has as many as another that waits, however long its files are, or its lines take.
    """

    def __init__(
        self,
        asker: Asker,
        *,
        units: Units,
        spine: Units,
        blobs: BlobStore,
        settings: InferenceSettings,
        lease_seconds: float,
    ) -> None:
        """
        Args:
            asker: Answers lines.
            units: Of the role `app`; every write is guarded by a lease.
            spine: Of the role `spine`, to claim and give back.
            blobs: Files.
            settings: Limits.
            lease_seconds: After which silence of a door its batches go to another.
        """
        self._spine = spine
        self._settings = settings
        self._lease_seconds = lease_seconds
        # One file at a time: reading a large one takes seconds, and a part of every one of them.
        self._files = ThreadPoolExecutor(1, thread_name_prefix="batch-files")
        # Fewer than the connections that the queue door's look-ups need too.
        self._threads = ThreadPoolExecutor(3, thread_name_prefix="batches")
        self._place = Workplace(
            asker=asker,
            units=units,
            spine=spine,
            blobs=blobs,
            files=self._files,
            threads=self._threads,
            settings=settings,
            lease_seconds=lease_seconds,
        )
        self._owner = f"door:{socket.gethostname()}:{os.getpid()}"
        self._working: dict[Project, asyncio.Task[None]] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until *stop* is set; then give back what was begun. Answered lines are kept."""
        while not stop.is_set():
            await self._take_up()
            await _wait(stop, self._settings.batch_poll_seconds)
        for task in self._working.values():
            task.cancel()
        await asyncio.gather(*self._working.values(), return_exceptions=True)
        for threads in (self._files, self._threads):
            threads.shutdown(wait=False, cancel_futures=True)

    async def _take_up(self) -> None:
        while len(self._working) < self._settings.batch_projects:
            try:
                lease = await self._place.in_thread(self._claim, tuple(self._working))
            except (Unavailable, SQLAlchemyError) as error:
                # Whatever it is, the queue door beside it goes on.
                _log.warning("batches_wait", reason=str(error))
                return
            if lease is None:
                return
            self._begin(lease)

    def _claim(self, held: tuple[Project, ...]) -> Lease | None:
        with self._spine.open(_ACTOR) as uow:
            return leases.claim(
                uow.session, LEASE_KIND, self._owner, self._lease_seconds, passing_over=held
            )

    def _begin(self, lease: Lease) -> None:
        task = asyncio.create_task(work_on(self._place, lease))
        self._working[lease.project] = task
        task.add_done_callback(lambda done: self._ended(lease, done))

    def _ended(self, lease: Lease, task: asyncio.Task[None]) -> None:
        del self._working[lease.project]
        if not task.cancelled() and (error := task.exception()) is not None:
            # Its lease runs out, and it is begun again a few times.
            _log.error("batch_crashed", batch_id=lease.subject, exc_info=error)


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
