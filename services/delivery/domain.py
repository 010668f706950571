"""Which deliveries are rung next, and which events a subscriber gets. Pure."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from shared.cursor import Cursor
from shared.errors import Invalid

_QUEUE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

# Of a queue under load, so that as many worker processes find one each.
_MESSAGES_AT_LEAST = 8

# The last turns of the first three ranks; the bus has four.
_TURNS = (1, 4, 16)

InFlight = Mapping[tuple[str, str], int]
"""Deliveries rung and not finished, by (queue, project)."""


@dataclass(frozen=True, slots=True)
class Due:
    """
    A delivery that may be rung now.

    Attributes:
        rings: How often it was rung before.
        turn: 1 when its project has nothing else in flight in its queue, 2 for the next, and so on.
    """

    id: str
    queue: str
    project: str
    task: str
    rings: int = 0
    turn: int = 1


@dataclass(frozen=True, slots=True)
class BusState:
    """
    What the broker holds.

    Attributes:
        is_wiped: It lost its memory since the last `mark_memory`.
        waiting: Messages by queue that no worker has fetched.
    """

    is_wiped: bool
    waiting: dict[str, int]


@dataclass(frozen=True, slots=True)
class Event:
    """A public event and its position in the feed."""

    position: Cursor
    type: str
    envelope: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Push:
    """What one round does for one subscriber."""

    events: list[Event]
    cursor: Cursor


def free_places(
    queues: Iterable[str], in_flight: InFlight, waiting: Mapping[str, int], window: int
) -> dict[str, int]:
    """
    Places left in the window of every queue that has some.

    Args:
        queues: All queues.
        in_flight: Rung and unfinished deliveries.
        waiting: Ringings nobody has fetched yet. Of a queue that nobody serves they outlast the
            deliveries' time in flight, and would pile up with every ringing again.
        window: Most of either per queue.
    """
    used: defaultdict[str, int] = defaultdict(int)
    for (queue, _project), count in in_flight.items():
        used[queue] += count
    for queue, count in waiting.items():
        used[queue] = max(used[queue], count)
    return {queue: window - used[queue] for queue in queues if used[queue] < window}


def choose_fairly(due: Sequence[Due], in_flight: InFlight, places: Mapping[str, int]) -> list[Due]:
    """
    Fill the free places so that projects have equally many deliveries in flight per queue.

    A project's n-th delivery competes with the n-th of the others, those in flight included, so
    a backlog of one project cannot hold up another's single message.

    Args:
        due: Candidates, oldest first within a project.
        in_flight: Rung and unfinished deliveries.
        places: Free places per queue.

    Returns:
        Those to ring, in the order of ringing, with their turns.
    """
    turns: defaultdict[tuple[str, str], int] = defaultdict(int, in_flight)
    ranked: defaultdict[str, list[Due]] = defaultdict(list)
    for one in due:
        turns[one.queue, one.project] += 1
        ranked[one.queue].append(replace(one, turn=turns[one.queue, one.project]))
    return [
        one
        for queue, candidates in ranked.items()
        for one in sorted(candidates, key=lambda due: due.turn)[: places.get(queue, 0)]
    ]


def rank_of(turn: int) -> int:
    """
    How far behind a message stands in the bus, from 0 to 3, by the turn of its first delivery.

    A window full of one project's messages lies before the workers; another's first has to pass
    it, and its second only what is no project's first.
    """
    return sum(turn > most for most in _TURNS)


def share_out(
    chosen: Sequence[Due], in_flight: InFlight, waiting: Mapping[str, int], most: int
) -> list[list[Due]]:
    """
    Put deliveries of one queue into messages: the more are under way, the more share one.

    A message costs a worker several times what an effect does, but its deliveries are answered
    one after another. So as long as few are under way each travels alone, and there are always
    enough messages for several workers. What was rung before travels alone as well: it may be
    what killed its worker, and its neighbours must not be killed or blamed with it.

    Args:
        chosen: What may be rung, in order.
        in_flight: What was rung before it and is unfinished.
        waiting: Messages that no worker has fetched, by queue.
        most: Deliveries in one message.

    Returns:
        Messages. While others wait, one that is not full is left out: places become free one by
        one, and filled one by one they would make a window of messages with one delivery each.
        One that begins with a project's first is sent all the same.
    """
    load = Counter(due.queue for due in chosen)
    for (queue, _project), count in in_flight.items():
        load[queue] += count
    messages = [[due] for due in chosen if due.rings]
    for queue in dict.fromkeys(due.queue for due in chosen):
        fresh = [due for due in chosen if due.queue == queue and not due.rings]
        size = max(1, min(most, load[queue] // _MESSAGES_AT_LEAST))
        full = len(fresh) - len(fresh) % size
        if waiting.get(queue) and full < len(fresh) and fresh[full].turn > 1:
            fresh = fresh[:full]
        messages += [fresh[start : start + size] for start in range(0, len(fresh), size)]
    return messages


def plan_push(events: Sequence[Event], types: Sequence[str], room: int, cursor: Cursor) -> Push:
    """
    The events a subscriber gets now, and how far that brings it.

    Args:
        events: Next of the feed, in order.
        types: Types it asked for; none means all.
        room: Events that still fit into its queue, >= 0.
        cursor: Where it stands.
    """
    wanted: list[Event] = []
    for event in events:
        if types and event.type not in types:
            cursor = event.position
            continue
        if len(wanted) == room:
            break
        wanted.append(event)
        cursor = event.position
    return Push(wanted, cursor)


def full_queue_name(project: str, queue: str) -> str:
    """
    The broker's name of a subscriber's queue.

    Raises:
        Invalid: The name could be mistaken for another key of the broker.
    """
    if not _QUEUE_NAME.fullmatch(queue):
        raise Invalid(
            "A queue name has 1 to 64 of a-z, 0-9, '.', '_' and '-', "
            "and begins with a letter or digit.",
            code="invalid_queue_name",
            param="queue",
        )
    return f"events.{project}.{queue}"


def key_prefix(broker_prefix: str, project: str) -> str:
    """Prefix of every broker key of a project's subscribers.

    Consumers under one prefix restore each other's unacknowledged messages by their own timeouts,
    so strangers must share it neither with our workers nor with other projects.
    """
    return f"{broker_prefix}events:{project}:"
