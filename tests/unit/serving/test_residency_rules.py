from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.serving.domain import Seat, choose_victim, count_crash, restart_delay, route_prefix

_SEATS = st.lists(
    st.builds(
        Seat,
        model=st.text(min_size=1, max_size=3),
        is_pinned=st.booleans(),
        is_settled=st.booleans(),
        running=st.integers(0, 3),
        last_used=st.floats(0, 100),
    ),
    max_size=8,
)


def _seat(model: str, *, running: int = 0, last_used: float = 0, pinned: bool = False) -> Seat:
    return Seat(model, is_pinned=pinned, is_settled=True, running=running, last_used=last_used)


def test_idle_model_goes_before_a_busy_one_that_is_older():
    victim = choose_victim([_seat("busy", running=1, last_used=1), _seat("idle", last_used=9)])
    assert victim is not None
    assert victim.model == "idle"


def test_among_idle_models_the_least_recently_used_goes():
    victim = choose_victim([_seat("new", last_used=3), _seat("old", last_used=2)])
    assert victim is not None
    assert victim.model == "old"


def test_pinned_models_leave_nobody_to_evict():
    assert choose_victim([_seat("a", pinned=True), _seat("b", pinned=True)]) is None


@given(_SEATS)
def test_victim_is_evictable_and_nobody_deserves_it_more(seats: list[Seat]):
    victim = choose_victim(seats)
    evictable = [seat for seat in seats if seat.is_settled and not seat.is_pinned]
    if victim is None:
        assert evictable == []
        return
    assert victim in evictable
    if victim.running:
        assert all(seat.running for seat in evictable)
    rivals = [seat for seat in evictable if bool(seat.running) == bool(victim.running)]
    assert victim.last_used == min(seat.last_used for seat in rivals)


def test_first_death_is_answered_at_once_and_a_series_ever_later():
    delays = [restart_delay(crashes) for crashes in range(1, 60)]
    assert delays[0] == 0
    assert delays == sorted(delays)
    assert delays[-1] == 10


@pytest.mark.parametrize(("lived_seconds", "crashes"), [(1, 4), (59, 4), (60, 1), (3600, 1)])
def test_a_death_after_a_sound_life_starts_a_new_series(lived_seconds, crashes):
    assert count_crash(3, lived_seconds) == crashes


def test_prefix_tells_models_bases_and_adapters_apart():
    prefixes = {
        route_prefix("m", "b", None),
        route_prefix("m", "b", "/a"),
        route_prefix("m", "c", None),
        route_prefix("n", "b", None),
        route_prefix("mb", "", None),
    }
    assert len(prefixes) == 5
    assert route_prefix("m", "b", "/a") == route_prefix("m", "b", "/a")
