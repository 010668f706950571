from __future__ import annotations

import pytest

from services.finetuning.train.stopping import Evaluation, judge


def verdict(losses, *, every=10, steps_per_epoch=10, patience=2):
    history = [Evaluation((n + 1) * every, loss) for n, loss in enumerate(losses)]
    return judge(history, steps_per_epoch=steps_per_epoch, patience=patience, min_improvement=0.005)


def test_falling_loss_goes_on():
    assert verdict([3.0, 2.0, 1.0]).should_stop is False


def test_two_evaluations_without_improvement_stop():
    result = verdict([3.0, 1.0, 1.2, 1.1])

    assert result.should_stop
    assert result.best_step == 20


def test_improvement_below_half_a_percent_does_not_count_but_may_be_best():
    result = verdict([1.0, 0.999, 0.998])

    assert result.should_stop
    assert result.best_step == 30


def test_slow_but_steady_improvement_is_measured_against_the_last_real_one():
    assert verdict([1.0, 0.997, 0.994]).should_stop is False


def test_first_epoch_is_always_finished():
    assert verdict([1.0, 1.1, 1.2], every=3).should_stop is False
    assert verdict([1.0, 1.1, 1.2, 1.3], every=3).should_stop is True


def test_patience_zero_never_stops():
    assert verdict([1.0, 2.0, 3.0, 4.0], patience=0).should_stop is False


def test_empty_history_is_an_error():
    with pytest.raises(ValueError, match="empty"):
        verdict([])
