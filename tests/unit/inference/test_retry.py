"""Pauses between attempts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.inference.domain.retry import Schedule

SCHEDULE = Schedule(attempts=3, first_seconds=0.1, longest_seconds=2.0)


def _pause(failures, *, retry_after=None, remaining=30.0, chance=0.5):
    return SCHEDULE.pause(failures, retry_after=retry_after, remaining=remaining, chance=chance)


def test_pauses_double_and_end_with_the_attempts():
    assert _pause(1) == 0.05
    assert _pause(2) == 0.1
    assert _pause(3) is None


def test_pause_is_never_shorter_than_what_was_asked_for():
    assert _pause(1, retry_after=1.5, chance=0.0) == 1.5


def test_pause_that_outlasts_the_deadline_gives_up():
    assert _pause(1, retry_after=5, remaining=4.9) is None


@given(
    st.integers(1, 9),
    st.none() | st.floats(0, 100),
    st.floats(0, 60),
    st.floats(0, 1, exclude_max=True),
)
def test_pause_is_within_its_bounds(failures, retry_after, remaining, chance):
    schedule = Schedule(attempts=10, first_seconds=0.1, longest_seconds=2.0)
    pause = schedule.pause(failures, retry_after=retry_after, remaining=remaining, chance=chance)
    if pause is not None:
        assert (retry_after or 0) <= pause < remaining
        assert pause <= (retry_after or 0) + 2.0
