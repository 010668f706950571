from __future__ import annotations

import itertools

import pytest

from services.releases.domain import TRANSITIONS, ReleaseAction, ReleaseState, next_state
from shared.errors import Conflict

LEGAL = {
    "candidate": {"gate": "gated"},
    "gated": {"start_canary": "canary", "promote": "live", "freeze": "frozen"},
    "canary": {"promote": "live", "roll_back": "rolled_back", "freeze": "frozen"},
    "live": {"supersede": "superseded", "roll_back": "rolled_back"},
    "superseded": {"restore": "live"},
    "frozen": {"thaw": "gated", "roll_back": "rolled_back"},
    "rolled_back": {},
}


@pytest.mark.parametrize(
    ("state", "action"), list(itertools.product(ReleaseState, ReleaseAction)), ids=str
)
def test_every_pair_of_state_and_action_does_what_the_table_says(state, action):
    expected = LEGAL[state].get(action)
    if expected is None:
        with pytest.raises(Conflict, match=f"{state} cannot {action}") as raised:
            next_state(state, action)
        assert raised.value.code == "release_state_conflict"
    else:
        assert next_state(state, action) == expected


def test_table_holds_nothing_else():
    assert len(TRANSITIONS) == sum(len(actions) for actions in LEGAL.values())
