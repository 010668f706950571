"""F-19: the model server says a model is ready, and it is not, or says a word nobody knows."""

from __future__ import annotations

import time

from shared.ids import uuid7
from shared.testing import upstream as acts
from tests.faults import candidates
from tests.faults.chats import LAYOUT, MACHINE_SECONDS, chatting, conclude, over
from tests.faults.trial import Bound
from tests.faults.watching import until

__all__ = ["LAYOUT"]
FAULT = "F-19"
# Operation and what is said to it; the last is said to chats alone, for a release asks for none.
LIES = {
    "says succeeded": ("load", acts.say_state("succeeded")),
    "says a word nobody knows": ("load", acts.say_state("transmogrified")),
    "ready, then 404 on its health": ("health", acts.not_found),
    "ready, then 404 on its answers": ("complete", acts.not_found),
}
# Before the fourth attempt, for a round may last for three.
BACKOFF_SECONDS = 0.5 * 2**2


def test_word_of_success_is_not_believed(stack, trial):
    """A model server that restarted says ready and answers 404, or says an unknown word.

    Guarantee: no chat is answered and no release goes before its traffic while it does; both do
    afterwards.
    """
    bound = Bound(
        BACKOFF_SECONDS + MACHINE_SECONDS,
        f"the next attempt of a load waits {BACKOFF_SECONDS} s, the machine {MACHINE_SECONDS} s",
    )
    believed, released = 0, 0

    with chatting(stack, trial, prepare=candidates.workload_on(stack)) as (load, upstream, chats):
        for number in trial.rounds():
            trial.pause()
            on, act = LIES[trial.in_turn(list(LIES), number)]
            model = candidates.register(stack, load.projects[0], f"candidate-{number}")
            with upstream.during(act, on=on):
                upstream.stop()
                upstream.start()
                began = time.time()
                if on != "complete":
                    released += 1
                    ask_for_release(load, chats.model, model)
                    until(lambda: len(upstream.calls("load", model)) >= 2, what="a second load")  # noqa: B023
                    state = candidates.state_of(stack, model)
                    trial.expect(state == "gated", f"{model} is {state}, told that {on} is well")
                else:
                    time.sleep(trial.chance.uniform(1, 2))
                believed += sum(reply.is_whole for reply in chats.after(began))
            ended, waited = time.time(), 0.0
            if on != "complete":
                candidates.await_start(stack, model, seconds=bound.seconds + 60)
                waited = time.time() - ended
                trial.expect(candidates.times_started(stack, model) == 1, f"{model} began twice")
                candidates.take_back(stack, load, model)
            over(trial, load, chats, bound, others=waited)
    trial.expect(believed == 0, f"{believed} chats were answered by a model that was not there")
    figures = f"{released} releases waited until their model was there"
    conclude(trial, load, chats, bound, figures)


def ask_for_release(load, workload, model):
    made = load.ask(
        "/api/v1/releases",
        candidates.release_of(workload, model),
        str(uuid7()),
        load.projects[0],
    )
    assert made, "the release could not be made"
