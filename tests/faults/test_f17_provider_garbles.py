"""F-17: streams and answers of the model server malformed, inside one load of chats."""

from __future__ import annotations

from shared.testing import upstream as acts
from tests.faults.chats import LAYOUT, MACHINE_SECONDS, chatting, conclude, over
from tests.faults.trial import Bound
from tests.faults.watching import until

__all__ = ["LAYOUT"]
FAULT = "F-17"
BOUND = Bound(MACHINE_SECONDS, f"nothing is waited for; the machine {MACHINE_SECONDS} s")


def second(event):
    """The events of a good answer, with *event* in the place of the second."""
    return acts.stream(lambda events: [events[0], event, *events[2:]])


# llama.cpp ends with an event of its own, not with `[DONE]`; without it nothing is complete.
BROKEN_STREAMS = {
    "cut off": acts.stream(lambda events: events[:2], is_cut=True),
    "no last event": acts.stream(lambda events: events[:-1]),
    "invalid JSON": second(b'data: {"content": "wo\n\n'),
    "wrong type": second(b'data: {"content": 7, "stop": false}\n\n'),
}
TWICE = acts.stream(lambda events: [event for event in events for _ in range(2)])

BROKEN_BODIES = {
    "half": acts.send_raw(b'{"content": "half of it", "stop": false}'),
    "invalid JSON": acts.send_raw(b'{"content": "wo'),
    "wrong type": acts.send_raw(
        b'{"content": 7, "stop": true, "stop_type": "eos", "tokens_evaluated": 1,'
        b' "tokens_predicted": 1}'
    ),
}


def test_malformed_stream_is_no_answer(stack, trial):
    """Streams of the model server cut, unreadable, of a wrong type, without their end, or doubled.

    Guarantee: what came is passed on, then an event with an error, and the record is no answer's;
    what came twice is heard once.
    """
    garbled = 0
    with chatting(stack, trial, streams=True) as (load, upstream, chats):
        for _ in trial.rounds():
            trial.pause()
            garbled += len(BROKEN_STREAMS)
            play(upstream, trial, [*BROKEN_STREAMS.values(), TWICE])
            over(trial, load, chats, BOUND)
    broken = [reply for reply in chats.replies if reply.code == "upstream_broken"]
    trial.expect(len(broken) == garbled, f"{len(broken)} of {garbled} streams ended with an error")
    trial.expect(all(reply.text for reply in broken), "what came was not passed on")
    trial.expect(set(chats.codes()) == {"upstream_broken"}, f"errors {dict(chats.codes())}")
    conclude(trial, load, chats, BOUND, f"{garbled} streams were garbled")


def test_malformed_body_is_no_answer(stack, trial):
    """Whole answers of the model server cut, unreadable or of a wrong type.

    Guarantee: it is asked again, and nobody sees a part of such an answer.
    """
    garbled = 0
    with chatting(stack, trial, streams=False) as (load, upstream, chats):
        for _ in trial.rounds():
            trial.pause()
            garbled += len(BROKEN_BODIES)
            play(upstream, trial, list(BROKEN_BODIES.values()))
            over(trial, load, chats, BOUND)
    trial.expect(set(chats.codes()) <= {"upstream_broken"}, f"errors {dict(chats.codes())}")
    conclude(trial, load, chats, BOUND, f"{garbled} bodies were garbled")


def play(upstream, trial, broken):
    """Each of *broken* once, in any order, with a good answer between, so no breaker opens."""
    acts_ = [act for one in trial.chance.sample(broken, len(broken)) for act in (one, acts.answer)]
    before = len(upstream.calls("complete"))
    upstream.once(*acts_)
    until(lambda: len(upstream.calls("complete")) >= before + len(acts_), what="all were played")
