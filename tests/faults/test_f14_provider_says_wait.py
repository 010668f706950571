"""F-14: the model server answers 429, with and without Retry-After, inside one load of chats."""

from __future__ import annotations

import time

from shared.testing import upstream as acts
from tests.faults.chats import LAYOUT, MACHINE_SECONDS, TOTAL_SECONDS, chatting, conclude, over
from tests.faults.trial import Bound
from tests.faults.watching import until

__all__ = ["LAYOUT"]
FAULT = "F-14"
# One that fits into the deadline of a request, one that does not, and none.
RESTS = [1.0, TOTAL_SECONDS + 1, None]
# What had been under way when the refusal was on its way.
UNDER_WAY_SECONDS = 0.4


def test_rest_that_the_model_server_asks_for_is_given(stack, trial):
    """429 of the model server, with a short, a long and no Retry-After.

    Guarantee: nobody calls before Retry-After is over; who can wait is answered, who cannot gets
    503 with Retry-After at once; each refusal costs one call more.
    """
    longest = max(rest for rest in RESTS if rest)
    bound = Bound(
        longest + MACHINE_SECONDS,
        f"the longest rest {longest} s, the machine {MACHINE_SECONDS} s",
    )
    early, told, refusals = 0, 0, 0
    with chatting(stack, trial) as (load, upstream, chats):
        for number in trial.rounds():
            trial.pause()
            rest = trial.in_turn(RESTS, number)
            refused, errors = [], chats.codes().total()
            upstream.once(noted(acts.refuse(429, retry_after=rest), refused))
            until(lambda: refused, what="somebody is refused")  # noqa: B023
            over(trial, load, chats, bound)
            refusals += len(refused)
            early += calls_within(upstream, refused[0], rest or 0)
            if rest is None or rest < TOTAL_SECONDS:
                told += chats.codes().total() - errors
    calls = upstream.calls("complete")
    ideal = len({call.prompt for call in calls})
    trial.expect(early == 0, f"{early} calls came before Retry-After was over")
    trial.expect(told == 0, f"{told} errors where there was time to wait")
    trial.expect(
        len(calls) - ideal <= refusals,
        f"I7: {len(calls)} calls for {ideal} requests, {refusals} of them refused",
    )
    # Who waited to the end of a rest may have no time left for an answer.
    fit = {"upstream_unavailable", "upstream_timeout"}
    trial.expect(set(chats.codes()) <= fit, f"errors {dict(chats.codes())}")
    figures = f"{len(calls)} calls for {ideal} requests, {early} of them in a rest"
    conclude(trial, load, chats, bound, figures)


def noted(act, instants):
    """The *act*, and when it was done."""

    def doing(exchange):
        instants.append(time.monotonic())
        act(exchange)

    return doing


def calls_within(upstream, began, seconds):
    """Calls in a rest, but for those that were under way when it was asked for."""
    return sum(
        began + UNDER_WAY_SECONDS < call.at < began + seconds for call in upstream.calls("complete")
    )
