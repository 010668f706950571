"""The choice of what is rung next, and what a subscriber gets."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.delivery.domain import (
    Due,
    Event,
    choose_fairly,
    free_places,
    full_queue_name,
    plan_push,
    rank_of,
    share_out,
)
from shared.cursor import Cursor
from shared.errors import Invalid

counts = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 12), max_size=4)


@given(due=counts, flying=counts, window=st.integers(1, 20))
def test_places_are_filled_and_no_project_gets_ahead(due, flying, window):
    in_flight = {("q", project): count for project, count in flying.items()}
    rows = [Due(f"{p}{n}", "q", p, "q.t") for p, count in due.items() for n in range(count)]
    places = free_places(["q"], in_flight, {}, window)
    chosen = choose_fairly(rows, in_flight, places)
    assert len(chosen) == min(places.get("q", 0), len(rows))
    got = Counter(one.project for one in chosen)
    held = {project: flying.get(project, 0) + got[project] for project in due}
    for lucky in got:
        for other in due:
            # Whoever has still something waiting is at most one behind whoever was served.
            if got[other] < due[other]:
                assert held[lucky] <= held[other] + 1
    for project in got:
        mine = [one.id for one in chosen if one.project == project]
        assert mine == [f"{project}{n}" for n in range(len(mine))]


def test_the_first_of_a_project_ranks_before_the_second_of_another():
    in_flight = {("q", "a"): 16}
    a, b, c = (Due(project, "q", project, "q.t") for project in "abc")
    chosen = choose_fairly([a, b, b, c], in_flight, {"q": 4})
    assert [(one.project, one.turn) for one in chosen] == [("b", 1), ("c", 1), ("b", 2), ("a", 17)]
    assert [rank_of(one.turn) for one in chosen] == [0, 0, 1, 3]
    assert [rank_of(turn) for turn in (4, 5, 16)] == [1, 2, 2]


def test_what_nobody_fetches_takes_up_the_window():
    assert free_places("ab", {("a", "p"): 3}, {"a": 5, "b": 0}, 8) == {"a": 3, "b": 8}
    assert free_places("ab", {("a", "p"): 3}, {"a": 1, "b": 9}, 8) == {"a": 5}


rings = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 2)), max_size=80)


@given(due=rings, flying=st.integers(0, 80), waiting=st.integers(0, 2), most=st.integers(1, 16))
def test_a_delivery_is_in_one_message_of_its_queue_and_a_repeated_one_alone(
    due, flying, waiting, most
):
    chosen = [Due(str(n), queue, "p", "t", again, turn=2) for n, (queue, again) in enumerate(due)]
    messages = share_out(chosen, {("a", "p"): flying}, {"a": waiting}, most)
    rung = [int(one.id) for message in messages for one in message]
    assert len(rung) == len(set(rung))
    for message in messages:
        assert len({one.queue for one in message}) == 1
        assert len(message) <= most
        assert len(message) == 1 or not any(one.rings for one in message)
    for queue in "ab":
        fresh = [int(one.id) for one in chosen if one.queue == queue and not one.rings]
        ours = [n for n in rung if n in fresh]
        assert ours == fresh[: len(ours)]
        # Left out is at most what fills no message, and only while others wait.
        assert len(fresh) - len(ours) < (most if queue == "a" and waiting else 1)
    assert {int(one.id) for one in chosen if one.rings} <= set(rung)


def _sizes(count, in_flight, waiting, turn=2):
    due = [Due(str(n), "q", "p", "t", turn=turn + n) for n in range(count)]
    return [len(message) for message in share_out(due, in_flight, waiting, 16)]


def test_few_travel_alone_and_many_share_a_message():
    assert _sizes(15, {}, {}) == [1] * 15
    assert _sizes(64, {}, {}) == [8] * 8
    # What is under way keeps the workers busy, so what joins it may wait for its neighbours.
    assert _sizes(10, {("q", "o"): 54}, {}) == [8, 2]
    assert _sizes(10, {("other", "o"): 54}, {}) == [1] * 10


def test_a_message_that_is_not_full_waits_until_the_workers_run_out_of_others():
    assert _sizes(10, {("q", "o"): 54}, {"q": 3}) == [8]
    assert _sizes(1, {("q", "o"): 63}, {"q": 3}) == []
    assert _sizes(1, {("q", "o"): 63}, {"q": 0}) == [1]
    assert _sizes(1, {("q", "o"): 14}, {"q": 14}) == [1]


def test_the_first_of_a_project_waits_for_no_others_of_its_message():
    assert _sizes(1, {("q", "o"): 63}, {"q": 3}, turn=1) == [1]
    # A full message takes the first along, and what is left over is nobody's first.
    assert _sizes(10, {("q", "o"): 54}, {"q": 3}, turn=1) == [8]


@given(
    kinds=st.lists(st.sampled_from("xyz"), max_size=30),
    types=st.lists(st.sampled_from("xyz"), max_size=2, unique=True),
    room=st.integers(1, 5),
)
def test_pushes_cover_the_feed_without_gap_or_repetition(kinds, types, room):
    feed = [Event(Cursor(1, n + 1), kind, {"id": n}) for n, kind in enumerate(kinds)]
    cursor, received = Cursor(1, 0), []
    for _ in range(len(feed) + 1):
        push = plan_push([e for e in feed if e.position > cursor], types, room, cursor)
        assert len(push.events) <= room
        received += push.events
        cursor = push.cursor
    assert received == [event for event in feed if not types or event.type in types]


def test_without_room_the_cursor_stops_before_what_is_wanted():
    feed = [Event(Cursor(1, 1), "x", {}), Event(Cursor(1, 2), "y", {})]
    assert plan_push(feed, ["y"], 0, Cursor()).cursor == Cursor(1, 1)
    assert plan_push(feed, [], 0, Cursor()).cursor == Cursor()


@pytest.mark.parametrize("name", ["", "UPPER", "a:b", "a\x06\x163", ".a", "a" * 65, "a*"])
def test_a_name_that_could_be_another_key_is_refused(name):
    with pytest.raises(Invalid):
        full_queue_name("p", name)


def test_a_name_carries_its_project():
    assert full_queue_name("p", "my-queue.v1") == "events.p.my-queue.v1"
