"""Decisions about jobs at providers."""

from __future__ import annotations

import base64

import pytest

from services.finetuning.domain.provider import (
    ENDING,
    Phase,
    error_code,
    has_ended,
    is_granted,
    meaning_of,
    measured_data,
    moves_to,
    numbers_of,
    one_line,
    plain_csv,
    seconds_to_next_look,
    seconds_to_next_try,
    step_of,
)
from services.finetuning.domain.states import TERMINAL, TRANSITIONS, State


@pytest.mark.parametrize("current", State)
@pytest.mark.parametrize("meant", State)
def test_moves_are_allowed_ones_and_end_where_the_provider_is(current, meant):
    passed = moves_to(current, meant)
    place = current
    for state in passed:
        assert state in TRANSITIONS[place]
        place = state
    if current in TERMINAL or current == meant or (current, meant) == ("running", "queued"):
        assert passed == ()
    elif meant is not State.VALIDATING_FILES:
        assert place is meant


def test_job_that_was_quick_passes_through_running():
    assert moves_to(State.QUEUED, State.SUCCEEDED) == (State.RUNNING, State.SUCCEEDED)


def test_only_known_words_mean_something():
    assert meaning_of("cancelled") is meaning_of("canceled") is State.CANCELLED
    assert meaning_of("Succeeded") is meaning_of("") is meaning_of("done") is None
    assert not has_ended("done")
    assert has_ended("failed")


def test_wish_is_granted_by_the_state_it_leads_to_or_by_an_end():
    wishes = {"pause": {"paused"}, "resume": {"validating_files", "queued", "running"}}
    ended = {"succeeded", "failed", "cancelled"}
    for wish, states in wishes.items():
        granted = {state.value for state in State if is_granted(wish, state)}
        assert granted == states | ended
        assert not is_granted(wish, "transmogrified")


def test_every_phase_comes_to_its_end():
    for begin in Phase:
        phase = begin
        for _ in Phase:
            phase = ENDING[phase]
        assert phase is Phase.DONE


@pytest.mark.parametrize("chance", [0.0, 0.999])
def test_looks_become_rarer_and_never_rarer_than_the_longest(chance):
    pauses = [seconds_to_next_look(quiet, least=2, most=30, chance=chance) for quiet in range(5000)]
    assert pauses == sorted(pauses)
    assert 1.5 <= pauses[0] <= 2
    assert 22.5 <= pauses[-1] <= 30


@pytest.mark.parametrize("failures", [1, 2, 10, 10**6])
def test_tries_have_full_jitter_within_the_cap_and_honour_the_provider(failures):
    def pause(chance, rest=None):
        return seconds_to_next_try(failures, rest, least=2, most=30, chance=chance)

    assert pause(0.0) == 0
    assert pause(0.999) <= 30
    assert pause(0.0, 600.0) == 600


def test_strangers_words_are_cut_and_cleaned():
    assert one_line("a\0b\x1b[0m\x7f") == "a b [0m "
    assert len(one_line("x" * 10_000)) == 1000
    assert error_code("training_not_available") == "training_not_available"
    assert [error_code(code) for code in ("", "A b", "x" * 65, None, 7)] == [None] * 5


def test_result_file_in_base64_is_decoded_and_anything_else_left_alone():
    rows = b"step,train_loss\n1,0.5\n"
    assert plain_csv(rows) == plain_csv(base64.b64encode(rows)) == rows
    assert plain_csv(b"AAAA") == b"AAAA"
    assert plain_csv(b"\xff\x00") == b"\xff\x00"


def test_only_finite_numbers_of_known_names_are_measured():
    data = {"step": 3, "train_loss": float("nan"), "valid_loss": True, "x": 1, "total_steps": 9.0}
    assert measured_data(data) == {"step": 3, "total_steps": 9.0}
    assert measured_data([1]) is None


@pytest.mark.parametrize("step", [-1, 0.5, 2**31, None])
def test_step_that_cannot_be_one_is_none(step):
    assert step_of({"step": step} if step is not None else None) is None


def test_hyperparameters_are_taken_over_where_they_are_numbers():
    given = {"n_epochs": 3, "batch_size": "auto", "learning_rate_multiplier": 2, "beta": -1}
    assert numbers_of(given) == {"n_epochs": 3, "learning_rate_multiplier": 2}
    assert numbers_of({"n_epochs": True, "batch_size": 2.5}) == {}
