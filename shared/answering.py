"""Answering the bell: one message of the bus rings one or more deliveries.

Each of them is answered in a transaction of its own and fails alone; its row says which task it
is for. Those that would wait too long behind the others are given back.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from shared.attempt import NOBODY, Attempt, Consumer
from shared.db import Units
from shared.process import process_settings, process_units
from shared.spine import deliveries

# A delivery begins only within this share of the message's hard limit (1 s of 20 s), so it has
# nearly all of the time it would have alone.
_BATCH_SHARE = 0.05

CONSUMERS: dict[str, Consumer] = {}


def answer(delivery_ids: Sequence[str]) -> None:
    """
    Answer one message: each of its deliveries in turn, as far as its time goes.

    Raises:
        Unavailable: Postgres was away before a row was read. It is rung again, as are those
            behind it.
    """
    units = process_units()
    rest = list(delivery_ids)
    give_back = partial(_give_back, units, rest)
    until = time.monotonic() + _BATCH_SHARE * process_settings().task_hard_limit_seconds
    try:
        while rest:
            Attempt(units, CONSUMERS, make_way=give_back).answer(rest.pop(0))
            if time.monotonic() > until:
                break
    finally:
        give_back()


def answer_unknown(delivery_ids: Sequence[str]) -> None:
    """
    Spend an attempt of the first, whose task this worker does not have; give back the others.

    During a deployment a newer worker has it; if there never is one, the attempts run out and
    the delivery becomes a dead letter instead of being rung for ever. Celery asks in the worker's
    main process, where no body may run.
    """
    first, *rest = delivery_ids
    units = process_units()
    give_back = partial(_give_back, units, rest)
    give_back()
    Attempt(units, {}, make_way=give_back).answer(first)


def _give_back(units: Units, rest: list[str]) -> None:
    if not rest:
        return
    with units.open(NOBODY) as uow:
        deliveries.give_back(uow.session, rest)
    rest.clear()
