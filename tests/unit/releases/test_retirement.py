"""When an end is announced, day by day."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from services.releases.domain.retirement import STEPS_DAYS, Ending, end_of, reached_step
from services.releases.service.models import Model

DAY = date(2027, 1, 14)


def ending(days_left: int, told: set[int] | None = None, base: date = DAY) -> Ending:
    return Ending("m", DAY, min(DAY, base), days_left, frozenset(told or ()))


@pytest.mark.parametrize(
    ("days_left", "step"),
    [(91, None), (90, 90), (31, 90), (30, 30), (8, 30), (7, 7), (1, 7), (0, 7), (-1, 7), (-99, 7)],
)
def test_the_step_of_a_day_is_the_last_one_reached(days_left, step):
    assert reached_step(days_left) == step


def test_each_step_is_told_once_on_its_day():
    told: set[int] = set()
    days = []
    for days_left in range(120, -10, -1):
        due = ending(days_left, told).due_step
        if due is not None:
            told.add(due)
            days.append((days_left, due))
    assert days == [(step, step) for step in STEPS_DAYS]


def test_of_missed_steps_only_the_nearest_is_told():
    assert ending(20).due_step == 30
    assert ending(20, {30}).due_step is None
    assert ending(3, {90}).due_step == 7
    assert ending(0).due_step == 7
    assert ending(-1).due_step is None


def test_what_ends_with_its_base_is_not_told_of():
    with_base = ending(5, base=DAY - timedelta(days=1))
    assert not with_base.is_its_own
    assert (with_base.due_step, with_base.has_further_step) == (None, False)
    same_day = ending(5, base=DAY)
    assert (same_day.due_step, same_day.has_further_step) == (7, False)


@pytest.mark.parametrize(("days_left", "more"), [(91, True), (8, True), (7, False), (-1, False)])
def test_more_is_to_come_until_the_last_step(days_left, more):
    assert ending(days_left).has_further_step is more


def test_a_model_ends_with_the_first_it_needs():
    tuned = Model("ft:b:1", "b", "0" * 64, 0, "acme")
    base = Model("b", "b", None, 0, "system")
    workload = Model("shop", "b", None, 0, "acme", live_model="ft:b:1")
    dates = {"b": DAY, "ft:b:1": DAY - timedelta(days=3), "other": DAY - timedelta(days=9)}
    assert end_of(base.needs, dates) == DAY
    assert end_of(tuned.needs, dates) == DAY - timedelta(days=3)
    assert end_of(workload.needs, dates) == DAY - timedelta(days=3)
    assert end_of(tuned.needs, {"b": DAY}) == DAY
    assert end_of(tuned.needs, {}) is None
