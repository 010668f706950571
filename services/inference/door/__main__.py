"""Entry of the doors that nobody calls: `python -m services.inference.door`, queue and batches."""

from __future__ import annotations

import asyncio
import signal

from redis.asyncio import Redis

from services.inference.batches.asking import Asker
from services.inference.batches.runner import BatchRunner
from services.inference.bootstrap import open_inference
from services.inference.door.answers import Answers
from services.inference.door.dead_letters import DeadLetters
from services.inference.door.door import QueueDoor
from services.inference.door.mailbox import Mailbox
from shared.keys import KEYS_QUERY, keys_from_rows
from shared.logging import configure_logging, get_logger
from shared.process import process_blobs, process_settings, process_units, spine_units
from shared.settings import CoreSettings
from shared.snapshots import Snapshot

_log = get_logger(__name__)
# The supervisor waits 10 s before it kills.
_DRAIN_SECONDS = 7.0
# Longer than a blocked call, so that a frozen bus is an error and not a silence.
_SOCKET_SECONDS = 10


async def serve(core: CoreSettings, stop: asyncio.Event) -> None:
    """Answer the queues of all projects that have a key, and their batches, until *stop*."""
    keys = Snapshot(
        spine_units(), KEYS_QUERY, keys_from_rows, period_seconds=core.snapshot_milliseconds / 1000
    )
    await asyncio.to_thread(keys.start)
    redis = Redis.from_url(
        core.bus_url,
        socket_timeout=_SOCKET_SECONDS,
        socket_connect_timeout=5,
        health_check_interval=25,
    )
    async with open_inference() as inference, redis:
        settings = inference.settings
        door = QueueDoor(
            core=inference.core,
            mailbox=Mailbox(
                redis,
                prefix=core.broker_prefix,
                dead_seconds=settings.door_dead_seconds,
                reply_seconds=settings.door_reply_seconds,
            ),
            answers=Answers(process_units(), spine_units()),
            letters=DeadLetters(spine_units()),
            projects=lambda: {key.project for key in keys.value.values()},
            settings=settings,
        )
        batches = BatchRunner(
            Asker(
                inference.core,
                inference.embeddings,
                total_seconds=settings.batch_total_seconds,
                concurrency=settings.batch_concurrency,
            ),
            units=process_units(),
            spine=spine_units(),
            blobs=process_blobs(),
            settings=settings,
            lease_seconds=core.lease_seconds,
        )
        _log.info("door_started")
        async with asyncio.TaskGroup() as doors:
            doors.create_task(door.run(stop, drain_seconds=_DRAIN_SECONDS))
            doors.create_task(batches.run(stop))
    keys.stop()
    _log.info("door_stopped")


async def _until_signalled(core: CoreSettings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(core, stop)


def main() -> None:
    """Run until SIGTERM or SIGINT; what was begun is finished."""
    core = process_settings()
    configure_logging("door", core.log_level)
    asyncio.run(_until_signalled(core))


if __name__ == "__main__":
    main()
