"""F-26: strings in the queues, and rows in the table, that no release of ours has written."""

from __future__ import annotations

import json
from typing import Any

from shared.broker import ROOM_QUEUES, lists_of
from shared.context import Context
from shared.contracts.envelope import Envelope
from shared.ids import Project
from tests.faults.layout import RESTART_SECONDS
from tests.faults.poison import KINDS, poison
from tests.faults.probes import Probe
from tests.faults.stack import Stack
from tests.faults.trial import Bound
from tests.faults.watching import until

FAULT = "F-26"
POISONED = "poisoned"

UNREADABLE: dict[str, Any] = {
    "null": None,
    "a list": [],
    "a string": "text",
    "a number": 7,
    "an empty object": {},
    "another specification": {"specversion": "2.0"},
    "no instant": {"time": "yesterday"},
    "data of another type": {"data": "text"},
    "data without its fields": {"data": {}},
    "a field of another type": {"data": {"number": [1]}},
    "nested deeply": {"data": json.loads("[" * 500 + "]" * 500)},
}


def test_poison_in_the_queues_stops_nobody(stack, trial):
    """Every kind of poison into the queues of all rooms.

    Guarantee: at most one worker ends for each kind, and what is behind it in the queue flows.
    """
    bound = bound_of_poison(stack)
    before = stack.exits("worker")
    with trial.load() as load:
        for number in trial.rounds():
            for position, kind in enumerate(trial.chance.sample(KINDS, len(KINDS))):
                # Over the rounds every kind comes into every queue.
                queue = ROOM_QUEUES[(number + KINDS.index(kind)) % len(ROOM_QUEUES)]
                for string in poison(stack, kind):
                    stack.bus.lpush(f"{stack.settings.broker_prefix}{queue}", string)
                if position % 8 == 0:
                    trial.pause(0.0, 0.2)
            trial.recovered(load, bound)
            until(lambda: not in_the_bus(stack), what="no poison is left in the bus")
    exits = stack.exits("worker") - before
    trial.note(f"{len(KINDS)} kinds in {len(ROOM_QUEUES)} queues; {exits} workers ended")
    trial.expect(exits <= len(KINDS), f"{exits} workers ended of {len(KINDS)} kinds of poison")
    trial.conclude(load, bound)


def test_poisoned_rows_become_dead_letters(stack, trial):
    """Rows with unreadable envelopes, and rows of tasks that no worker knows.

    Guarantee: each becomes a dead letter that says why, and no healthy one does.
    """
    bound = bound_of_poison(stack)
    before, rows = stack.exits("worker"), dict[str, str]()
    with trial.load() as load:
        for _ in trial.rounds():
            trial.pause()
            # Between two attempts lies a pause of up to half a minute.
            left = 2 if trial.is_full else 1
            rows |= plant_unreadable(stack, "drift.probe")
            rows |= plant_unknown(stack, attempts_left=left)
            trial.recovered(load, bound)
        until(
            lambda: len(letters(stack, rows)) == len(rows),
            what="all poisoned rows are dead letters",
            seconds=120,
        )
    for delivery, reason in letters(stack, rows).items():
        trial.expect(rows[delivery] in reason, f"the reason says: {reason}")
    trial.expect(buried(stack, rows) == len(rows), "the audit log misses a burial")
    trial.note(f"{len(rows)} poisoned rows; {stack.exits('worker') - before} workers ended")
    trial.expect(stack.exits("worker") == before, "a poisoned row ended a worker")
    trial.conclude(load, bound)


def in_the_bus(stack: Stack) -> int:
    """Messages that wait, and those that a worker has not acknowledged."""
    prefix = stack.settings.broker_prefix
    waiting = (stack.bus.llen(f"{prefix}{name}") for q in ROOM_QUEUES for name in lists_of(q))
    return sum(waiting) + stack.bus.hlen(f"{prefix}unacked")


def bound_of_poison(stack: Stack) -> Bound:
    again = stack.settings.ring_again_seconds
    return Bound(
        RESTART_SECONDS + 2 * again,
        f"should a worker end, its restart {RESTART_SECONDS} s and two ringings again, "
        f"{again} s each; 60 s in production",
    )


def plant_unreadable(stack: Stack, task: str) -> dict[str, str]:
    """Rows of *task* with each unreadable envelope; what their reasons have to say, by id."""
    sound = sound_envelope(stack)
    return {
        stack.plant(
            POISONED, task, {**sound, **change} if isinstance(change, dict) and change else change
        ): "message_unreadable"
        for change in UNREADABLE.values()
    }


def plant_unknown(stack: Stack, *, attempts_left: int) -> dict[str, str]:
    """As `plant_unreadable`: rows of unknown tasks, one in every queue."""
    sound, spent = sound_envelope(stack), stack.settings.delivery_attempts - attempts_left
    return {
        stack.plant(POISONED, f"{queue}.no_such_task", sound, starts=spent): "task_unknown"
        for queue in ROOM_QUEUES
    }


def sound_envelope(stack: Stack) -> dict[str, Any]:
    context = Context.root(Project(POISONED), "faults")
    with stack.app.open(context) as uow:
        return Envelope.seal(Probe(number="poison"), context, uow.now).model_dump(mode="json")


def letters(stack: Stack, deliveries: dict[str, str]) -> dict[str, str]:
    """Reasons of those that are dead letters, by id."""
    rows = stack.rows(
        "SELECT id::text, reason FROM spine.dead_letters WHERE id = ANY(%s::uuid[])",
        list(deliveries),
    )
    return dict(rows)


def buried(stack: Stack, deliveries: dict[str, str]) -> int:
    """How many burials of them the audit log tells."""
    ((count,),) = stack.rows(
        "SELECT count(*) FROM spine.audit_entries "
        "WHERE action = 'delivery.buried' AND subject = ANY(%s)",
        list(deliveries),
    )
    return int(count)
