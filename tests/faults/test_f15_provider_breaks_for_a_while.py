"""F-15: the model server answers 500 or 503 for a while, then well, inside one load of chats."""

from __future__ import annotations

import json
import time
from collections import Counter

from shared.testing import upstream as acts
from tests.faults import candidates
from tests.faults.chats import (
    CALLERS,
    FIRST_PAUSE_SECONDS,
    LAYOUT,
    LONGEST_PAUSE_SECONDS,
    MACHINE_SECONDS,
    chatting,
    conclude,
    over,
)
from tests.faults.load import BASE
from tests.faults.trial import Bound

__all__ = ["LAYOUT"]
FAULT = "F-15"
FAILURES = 5
BOUND = Bound(
    LONGEST_PAUSE_SECONDS + MACHINE_SECONDS,
    f"the longest pause of the breaker {LONGEST_PAUSE_SECONDS} s, the machine {MACHINE_SECONDS} s",
)


def test_burst_of_failures_opens_the_breaker_and_its_end_closes_it(stack, trial):
    """500 or 503 of the model server for one to two seconds, without a fallback.

    Guarantee: the breaker opens, tries, and closes; meanwhile callers get 503 with Retry-After;
    afterwards all are answered.
    """
    with chatting(stack, trial) as (load, upstream, chats):
        figures = burst(stack, trial, load, upstream, chats)
    trial.expect(
        set(chats.codes()) <= {"upstream_unavailable", "model_paused"},
        f"errors {dict(chats.codes())}",
    )
    trial.expect(chats.codes()["model_paused"] > 0, "nobody was told of the pause")
    conclude(trial, load, chats, BOUND, figures)


def test_fallback_answers_while_a_model_breaks(stack, trial):
    """500 or 503 of one model for one to two seconds, beside a fallback.

    Guarantee: the fallback answers everybody, and the model itself when it is well again.
    """
    fallback = ""

    def prepare(load, _upstream):
        nonlocal fallback
        fallback = candidates.register(stack, load.projects[0], "fallback")
        return candidates.make_workload(stack, load, fallback_model=fallback)

    with chatting(stack, trial, prepare=prepare) as (load, upstream, chats):
        warm = time.time()
        figures = burst(stack, trial, load, upstream, chats)
    replies = chats.after(warm)
    models = {reply.model for reply in replies}
    trial.expect(all(reply.is_whole for reply in replies), f"errors {dict(chats.codes())}")
    trial.expect(models == {BASE, fallback}, f"{models} answered")
    conclude(trial, load, chats, BOUND, figures)


def burst(stack, trial, load, upstream, chats):
    """Every round's failures and what they cost the model; the figures."""
    before, calls, most, rounds = breaker_changes(stack), 0, 0.0, 0
    for number in trial.rounds(full=10):
        trial.pause()
        rounds += 1
        began, earlier = time.monotonic(), len(upstream.calls("complete", BASE))
        with upstream.during(acts.refuse((500, 503)[number % 2]), model=BASE):
            time.sleep(trial.chance.uniform(1, 2))
        calls += len(upstream.calls("complete", BASE)) - earlier
        # Those that open it, those under way meanwhile, and a trial after every pause.
        trials = (time.monotonic() - began) / FIRST_PAUSE_SECONDS + 1
        most += FAILURES + CALLERS + trials
        over(trial, load, chats, BOUND)
    changes = breaker_changes(stack)
    opened, closed = (changes[which] - before[which] for which in (True, False))
    trial.expect(opened >= rounds, f"the breaker opened {opened} times in {rounds} rounds")
    trial.expect(opened == closed, f"the breaker opened {opened} times and closed {closed} times")
    trial.expect(calls <= most, f"I7: {calls} calls of a sick model, at most {most:.0f}")
    return (
        f"in {rounds} bursts the breaker opened {opened} times and closed {closed} times; "
        f"{calls} calls in the bursts, at most {most:.0f} allowed"
    )


def breaker_changes(stack):
    """How often the gateway's breakers opened (True) and closed, by its log."""
    lines = [line for line in stack.log("gateway").splitlines() if "breaker_changed" in line]
    return Counter(json.loads(line)["is_open"] for line in lines)
