from __future__ import annotations

import json

import pytest

from services.finetuning.train.plan import (
    Plan,
    affordable_evaluations,
    count_steps,
    full_evaluation_steps,
    learning_rate_at,
    read_plan,
)
from shared.errors import Invalid

NEEDED = {
    "base": "b",
    "n_epochs": 1,
    "batch_size": 2,
    "learning_rate_multiplier": 1.0,
    "seed": 0,
}


def write(tmp_path, values):
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(values))
    return path


def test_plan_is_read_with_defaults(tmp_path):
    assert read_plan(write(tmp_path, NEEDED)) == Plan(**NEEDED)


@pytest.mark.parametrize(
    ("values", "param"),
    [
        (NEEDED | {"n_epoch": 3}, "n_epoch"),
        (NEEDED | {"batch_size": 0}, "batch_size"),
        (NEEDED | {"learning_rate_multiplier": 0}, "learning_rate_multiplier"),
        ({key: NEEDED[key] for key in NEEDED if key != "seed"}, None),
    ],
)
def test_plan_that_cannot_be_followed_is_refused(tmp_path, values, param):
    with pytest.raises(Invalid) as caught:
        read_plan(write(tmp_path, values))

    assert (caught.value.code, caught.value.param) == ("invalid_plan", param)


def test_short_last_batch_counts_as_a_step():
    assert count_steps(10, 4, 3) == (3, 9)
    assert count_steps(8, 4, 1) == (2, 2)


@pytest.mark.parametrize("total", [1, 2, 5, 20, 100, 5000])
def test_rate_rises_to_the_peak_and_falls_to_a_tenth(total):
    rates = [learning_rate_at(step, total, 2.0) for step in range(1, total + 1)]
    peak = rates.index(max(rates))

    assert max(rates) == pytest.approx(2.0)
    assert all(rate > 0 for rate in rates)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert peak + 1 <= max(1, total / 5)
    if total > 2:
        assert rates[-1] == pytest.approx(0.2)


def test_warm_up_lasts_three_steps_or_a_twentieth():
    def warm_up(total):
        rates = [learning_rate_at(step, total, 1.0) for step in range(1, total + 1)]
        return rates.index(1.0) + 1

    assert [warm_up(total) for total in (5, 20, 60, 200)] == [1, 3, 3, 10]


def test_every_epoch_ends_with_a_full_evaluation():
    steps = full_evaluation_steps(steps_per_epoch=7, total_steps=21, wanted=1, affordable=0)

    assert steps == {7, 14, 21}


def test_one_epoch_is_divided_as_far_as_it_can_be_paid():
    def steps(affordable):
        return sorted(
            full_evaluation_steps(
                steps_per_epoch=100, total_steps=100, wanted=5, affordable=affordable
            )
        )

    assert steps(10) == [20, 40, 60, 80, 100]
    assert steps(2) == [50, 100]
    assert steps(0) == [100]


def test_evaluations_may_cost_fifteen_percent():
    assert affordable_evaluations(training_tokens=1000, validation_tokens=100) == 4
