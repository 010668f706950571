"""When a model is left alone, and how much is repeated."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.inference.breakers import Breakers
from services.inference.domain.breaker import (
    Breaker,
    Closed,
    Ending,
    Go,
    HalfOpen,
    Open,
    Refused,
    Rest,
    RetryBudget,
)

RULES = Breaker(failures=3, pause_seconds=1.0, longest_pause_seconds=4.0, longest_rest_seconds=60.0)
ANSWERED, FAILED, LATE, ABANDONED = Ending


def _after(state, ending, *, go=None, now=10.0, retry_after=None):
    """After a call that began in this very state, unless *go* says otherwise."""
    go = go or Go(state.epoch, getattr(state, "failures", 0))
    return RULES.settle(state, go, ending, now=now, retry_after=retry_after)


def test_closed_breaker_lets_everybody_through():
    assert RULES.admit(Closed(7, 2), 10.0) == (Closed(7, 2), Go(7, 2))


@pytest.mark.parametrize("ending", [FAILED, LATE])
def test_so_many_failures_in_a_row_open_it(ending):
    state = Closed(7)
    for failures in (1, 2):
        state = _after(state, ending)
        assert state == Closed(7, failures)
    assert _after(state, ending) == Open(8, until=11.0, pause=1.0)


def test_calls_that_fail_together_are_one_failure():
    state = Closed(7)
    for _ in range(9):
        state = _after(state, FAILED, go=Go(7, 0), retry_after=1.0)
    assert state == Closed(7, failures=1, rest_until=11.0)
    assert _after(state, FAILED, go=Go(7, 1)) == Closed(7, failures=2, rest_until=11.0)


def test_calls_that_wait_in_vain_together_each_count():
    state = Closed(7)
    for _ in range(3):
        state = _after(state, LATE, go=Go(7, 0))
    assert state == Open(8, until=11.0, pause=1.0)


def test_an_answer_ends_the_row():
    assert _after(Closed(7, failures=2), ANSWERED) == Closed(7)


def test_what_we_gave_up_ourselves_says_nothing():
    assert _after(Closed(7, failures=2), ABANDONED) == Closed(7, failures=2)


def test_open_breaker_says_how_long_it_stays_so():
    state = Open(8, until=11.0, pause=1.0)
    assert RULES.admit(state, 10.25) == (state, Refused(0.75))


def test_after_its_pause_one_trial_goes_through_and_nobody_else():
    trying, verdict = RULES.admit(Open(8, until=11.0, pause=1.0), 11.0)
    assert (trying, verdict) == (HalfOpen(8, retrial=12.0, pause=1.0), Go(8))
    assert RULES.admit(trying, 11.5) == (trying, Refused(0.5))


def test_a_trial_nobody_hears_of_is_followed_by_another():
    state, verdict = RULES.admit(HalfOpen(8, retrial=12.0, pause=1.0), 12.0)
    assert (state, verdict) == (HalfOpen(8, retrial=13.0, pause=1.0), Go(8))


def test_a_trial_that_is_answered_closes_it():
    assert _after(HalfOpen(8, retrial=12.0, pause=1.0), ANSWERED) == Closed(9)


@pytest.mark.parametrize("ending", [FAILED, LATE])
def test_a_trial_that_fails_opens_it_for_twice_as_long_up_to_a_ceiling(ending):
    state = HalfOpen(8, retrial=12.0, pause=1.0)
    for epoch, pause in ((9, 2.0), (10, 4.0), (11, 4.0)):
        opened = _after(state, ending)
        assert opened == Open(epoch, until=10.0 + pause, pause=pause)
        state = HalfOpen(opened.epoch, retrial=0.0, pause=opened.pause)


def test_a_trial_that_is_given_up_makes_room_for_the_next():
    state = _after(HalfOpen(8, retrial=12.0, pause=1.0), ABANDONED)
    assert RULES.admit(state, 10.0)[1] == Go(8)


@pytest.mark.parametrize("ending", list(Ending))
@pytest.mark.parametrize("state", [Closed(9), Open(9, 11.0, 1.0), HalfOpen(9, 12.0, 1.0)])
def test_a_call_of_an_earlier_state_changes_nothing(state, ending):
    assert _after(state, ending, go=Go(8), retry_after=5.0) == state


@pytest.mark.parametrize("ending", list(Ending))
def test_nothing_that_ends_can_close_an_open_breaker(ending):
    state = Open(8, until=11.0, pause=1.0)
    assert _after(state, ending) == state


def test_rest_that_was_asked_for_is_kept_by_all():
    state = _after(Closed(7), FAILED, retry_after=2.0)
    assert RULES.admit(state, 11.5) == (state, Rest(0.5))
    assert RULES.admit(state, 12.0)[1] == Go(7, 1)


def test_the_longer_of_two_rests_is_kept():
    state = _after(Closed(7, rest_until=15.0), FAILED, retry_after=2.0)
    assert state == Closed(7, failures=1, rest_until=15.0)
    assert _after(state, ANSWERED) == Closed(7, rest_until=15.0)


def test_a_rest_outlasts_the_pause_of_a_breaker_that_opens():
    assert _after(Closed(7, failures=2), FAILED, retry_after=9.0) == Open(8, 19.0, 1.0)
    assert _after(HalfOpen(8, 12.0, 1.0), FAILED, retry_after=9.0) == Open(9, 19.0, 2.0)


def test_nobody_can_ask_for_a_rest_without_end():
    assert _after(Closed(7), FAILED, retry_after=1e9) == Closed(7, 1, rest_until=70.0)


class Lived(RuleBasedStateMachine):
    """Calls that begin and end in any order, and time that passes."""

    def __init__(self):
        super().__init__()
        self.now, self.state, self.under_way = 0.0, Closed(), []

    @rule(seconds=st.floats(0.01, 5.0))
    def pass_time(self, seconds):
        self.now += seconds

    @rule()
    def call(self):
        before = self.state
        self.state, verdict = RULES.admit(before, self.now)
        match verdict:
            case Go(epoch):
                assert epoch == self.state.epoch
                self.under_way.append(verdict)
                assert isinstance(self.state, HalfOpen) != isinstance(before, Closed)
            case Refused(seconds) | Rest(seconds):
                assert 0 < seconds <= RULES.longest_rest_seconds + 1e-9
                assert self.state == before
                # It can always be tried again after what was said.
                assert isinstance(RULES.admit(before, self.now + seconds + 1e-9)[1], Go)

    @precondition(lambda self: self.under_way)
    @rule(
        pick=st.integers(0, 1 << 16),
        ending=st.sampled_from(list(Ending)),
        retry_after=st.none() | st.floats(0, 1e6),
    )
    def end(self, pick, ending, retry_after):
        go = self.under_way.pop(pick % len(self.under_way))
        before = self.state
        self.state = RULES.settle(before, go, ending, now=self.now, retry_after=retry_after)
        if isinstance(before, Closed) and isinstance(self.state, Open):
            assert before.failures + 1 == RULES.failures
        if isinstance(self.state, Closed) and not isinstance(before, Closed):
            assert (ending, isinstance(before, HalfOpen)) == (ANSWERED, True)
        if go.epoch != before.epoch:
            assert self.state == before

    @invariant()
    def epochs_grow_and_pauses_are_bounded(self):
        assert all(go.epoch <= self.state.epoch for go in self.under_way)
        if isinstance(self.state, Closed):
            assert self.state.failures < RULES.failures
        else:
            assert RULES.pause_seconds <= self.state.pause <= RULES.longest_pause_seconds


TestLived = Lived.TestCase


@given(
    st.floats(0, 1),
    st.integers(0, 20),
    st.lists(st.booleans(), max_size=300),
)
def test_repetitions_stay_within_their_share_and_the_floor(share, floor, wishes):
    budget = RetryBudget(share, floor)
    tokens, firsts, repetitions = float(floor), 0, 0
    for is_first in wishes:
        if is_first:
            firsts += 1
            tokens = budget.earn(tokens)
        elif (left := budget.spend(tokens)) is not None:
            repetitions += 1
            tokens = left
        assert repetitions <= share * firsts + floor + 1e-6
        assert 0 <= tokens <= max(floor, 0)


def test_ten_first_calls_pay_for_one_repetition():
    budget = RetryBudget(share=0.1, floor=2)
    tokens = 0.0
    for _ in range(9):
        tokens = budget.earn(tokens)
    assert budget.spend(tokens) is None
    assert budget.spend(budget.earn(tokens)) == 0.0


class Hands:
    """A clock that a test moves."""

    now = 100.0

    def __call__(self):
        return self.now


def test_models_fail_apart_from_each_other():
    clock = Hands()
    breakers = Breakers(RULES, RetryBudget(0.1, 2), clock=clock)
    for _ in range(3):
        breakers.begin("sick", breakers.admit("sick"), is_repetition=False).end(FAILED)
    breakers.begin("well", breakers.admit("well"), is_repetition=False).end(ANSWERED)
    assert breakers.admit("sick") == Refused(1.0)
    assert isinstance(breakers.admit("well"), Go)
    assert {model: standing.is_open for model, standing in breakers.standings()} == {
        "sick": True,
        "well": False,
    }


def test_only_the_first_ending_of_a_call_counts():
    breakers = Breakers(RULES, RetryBudget(0.1, 2), clock=Hands())
    call = breakers.begin("m", breakers.admit("m"), is_repetition=False)
    for _ in range(5):
        call.end(FAILED)
    [(_, standing)] = breakers.standings()
    assert standing.state == Closed(0, failures=1)


def test_nothing_is_repeated_at_a_model_that_is_left_alone():
    breakers = Breakers(RULES, RetryBudget(0.1, 9), clock=Hands())
    for _ in range(3):
        assert breakers.may_repeat("m")
        breakers.begin("m", breakers.admit("m"), is_repetition=True).end(FAILED)
    assert not breakers.may_repeat("m")
    [(_, standing)] = breakers.standings()
    assert (standing.calls, standing.repetitions) == (3, 3)
