"""A workload's releases under any order of actions, against what must always hold."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from services.releases.domain import ReleaseAction, ReleaseState, next_state
from shared.errors import Conflict


class ReleaseLife(RuleBasedStateMachine):
    @initialize()
    def propose(self):
        self.state = ReleaseState.CANDIDATE
        self.seen = [self.state]

    @rule(action=st.sampled_from(ReleaseAction))
    def act(self, action):
        try:
            self.state = next_state(self.state, action)
        except Conflict:
            return
        self.seen.append(self.state)

    @invariant()
    def nothing_meets_traffic_ungated(self):
        met_traffic = {ReleaseState.CANARY, ReleaseState.LIVE} & set(self.seen)
        assert not met_traffic or self.seen[1] is ReleaseState.GATED

    @invariant()
    def candidate_never_comes_back(self):
        assert ReleaseState.CANDIDATE not in self.seen[1:]

    @invariant()
    def rolled_back_is_final(self):
        assert ReleaseState.ROLLED_BACK not in self.seen[:-1]

    @invariant()
    def frozen_is_left_only_by_a_person(self):
        after = {b for a, b in zip(self.seen, self.seen[1:], strict=False) if a == "frozen"}
        assert after <= {ReleaseState.GATED, ReleaseState.ROLLED_BACK}

    @invariant()
    def only_what_was_live_is_superseded(self):
        before = {a for a, b in zip(self.seen, self.seen[1:], strict=False) if b == "superseded"}
        assert before <= {ReleaseState.LIVE}


TestReleaseLife = ReleaseLife.TestCase
TestReleaseLife.settings = settings(max_examples=200, stateful_step_count=15, deadline=None)
