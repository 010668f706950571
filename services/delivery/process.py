"""The delivery process: loops that know nothing of each other."""

from __future__ import annotations

import signal
import threading
from functools import partial
from types import FrameType

from services.delivery.bootstrap import (
    delivery_settings,
    make_bell,
    make_post,
    make_queues,
    make_sealer,
)
from services.delivery.loop import Loop
from services.delivery.service import forgetting, pushing, ringing, schedules
from services.delivery.service.posting import Posting
from services.delivery.service.sealing import Sealing
from services.delivery.settings import DeliverySettings
from shared.db import Units
from shared.logging import configure_logging, get_logger
from shared.process import process_settings, spine_units
from shared.settings import CoreSettings

log = get_logger(__name__)


def main() -> int:
    """Run until SIGTERM or SIGINT; 1 when a loop crashed."""
    settings = process_settings()
    configure_logging("delivery", settings.log_level)
    stop = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    loops = make_loops(spine_units(), settings, delivery_settings(), stop)
    for loop in loops:
        loop.start()
    log.info("delivery_started")
    for loop in loops:
        loop.join()
    log.info("delivery_stopped")
    return int(any(loop.has_crashed for loop in loops))


def make_loops(
    units: Units, core: CoreSettings, settings: DeliverySettings, stop: threading.Event
) -> list[Loop]:
    """Separate loops, so that a slow subscriber or a long list of schedules delays no ringing."""
    seconds = core.delivery_poll_milliseconds / 1000
    chore_seconds = settings.chore_milliseconds / 1000

    sealing = Sealing(partial(make_sealer, units, core, settings))

    posting = Posting(partial(make_post, units, settings))

    def fire_and_bury() -> int:
        return schedules.fire_due(units) + ringing.bury_exhausted(units, core)

    return [
        Loop("ring", partial(ringing.ring_due, units, make_bell(core), core), seconds, stop),
        Loop("schedules", fire_and_bury, chore_seconds, stop),
        Loop(
            "push",
            partial(pushing.push_news, units, make_queues(core), settings),
            chore_seconds,
            stop,
        ),
        Loop(
            "forget",
            partial(forgetting.forget, units, settings),
            settings.forget_seconds,
            stop,
        ),
        Loop("post", posting.round, chore_seconds, stop),
        Loop("seal", sealing.round, settings.seal_milliseconds / 1000, stop),
    ]
