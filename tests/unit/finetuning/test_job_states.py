from __future__ import annotations

from itertools import product

import pytest

from services.finetuning.domain.states import TERMINAL, TRANSITIONS, State, sources_of

ALLOWED = {
    ("validating_files", "queued"),
    ("validating_files", "failed"),
    ("validating_files", "cancelled"),
    ("queued", "running"),
    ("queued", "failed"),
    ("queued", "cancelled"),
    ("running", "paused"),
    ("paused", "queued"),
    ("paused", "failed"),
    ("paused", "cancelled"),
    ("running", "succeeded"),
    ("running", "failed"),
    ("running", "cancelled"),
}


@pytest.mark.parametrize(("source", "target"), list(product(State, State)))
def test_every_pair_of_states_is_allowed_or_refused_as_documented(source, target):
    assert (source in sources_of(target)) == ((source.value, target.value) in ALLOWED)


def test_table_names_every_state_and_ends_in_three():
    assert set(TRANSITIONS) == set(State)
    assert {State.SUCCEEDED, State.FAILED, State.CANCELLED} == TERMINAL
