"""F-16: the model server begins and does not end, inside one load of chats."""

from __future__ import annotations

from shared.testing import upstream as acts
from tests.faults.chats import LAYOUT, TOTAL_SECONDS, chatting, conclude, over
from tests.faults.trial import Bound
from tests.faults.watching import until

__all__ = ["LAYOUT"]
FAULT = "F-16"
HANGING = {
    "no answer": acts.hang,
    "half a body": acts.half_a_body,
    "one byte a second": acts.drip(1.0),
}
# One fewer than open the breaker. The seats that are left without theirs are too few for all.
AT_ONCE = 4
LATE_SECONDS = 1.5


def test_model_server_that_hangs_is_left_at_the_deadline(stack, trial):
    """No answer, half a body or a byte a second of the model server, streamed and whole.

    Guarantee: every request ends within the deadline of its class, its call is cancelled and its
    seat is free.
    """
    bound = Bound(
        TOTAL_SECONDS + LATE_SECONDS,
        f"the deadline of a request {TOTAL_SECONDS} s, the machine {LATE_SECONDS} s",
    )
    hung = 0
    with chatting(stack, trial) as (load, upstream, chats):
        warm = chats.replies[-1].began
        for number in trial.rounds():
            trial.pause()
            hung += AT_ONCE
            upstream.once(*[HANGING[trial.in_turn(list(HANGING), number)]] * AT_ONCE)
            until(lambda: upstream.departures >= hung, what="hanging calls are left")  # noqa: B023
            over(trial, load, chats, bound)
    slowest = max(reply.seconds for reply in chats.after(warm))
    timeouts = chats.codes()["upstream_timeout"]
    trial.recoveries[-1] = max(trial.recoveries[-1], slowest)
    trial.expect(upstream.departures == hung, f"{upstream.departures} of {hung} calls were left")
    trial.expect(timeouts == hung, f"{timeouts} of {hung} requests were told of their deadline")
    trial.expect(set(chats.codes()) == {"upstream_timeout"}, f"errors {dict(chats.codes())}")
    figures = f"{hung} calls hung, all were left; the slowest request took {slowest:.2f} s"
    conclude(trial, load, chats, bound, figures)
