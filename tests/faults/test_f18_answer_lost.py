"""F-18: it is done and the answer is lost, at the model server and at our own API."""

from __future__ import annotations

import json
import time
from http.client import HTTPConnection
from urllib.parse import urlsplit

from shared.ids import uuid7
from shared.testing import upstream as acts
from tests.faults import candidates
from tests.faults.chats import LAYOUT, MACHINE_SECONDS, chatting, conclude, over
from tests.faults.trial import ACCEPTING, Bound

__all__ = ["LAYOUT"]
FAULT = "F-18"
# The second attempt waits for at most this long.
BACKOFF_SECONDS = 1.0


def test_lost_answers_cause_no_second_effect(stack, trial):
    """Answers to a load, to a chat and to the creating of a release lost after their effect.

    Guarantee: one resident, one release, put before its traffic once; the chat is answered and has
    one record.
    """
    bound = Bound(
        BACKOFF_SECONDS + MACHINE_SECONDS,
        f"the second attempt of a load waits {BACKOFF_SECONDS} s, the machine {MACHINE_SECONDS} s",
    )
    models = []

    with chatting(stack, trial, prepare=candidates.workload_on(stack)) as (load, upstream, chats):
        for number in trial.rounds():
            trial.pause()
            model = candidates.register(stack, load.projects[0], f"candidate-{number}")
            models.append(model)
            upstream.once(acts.lose_answer, on="load", model=model)
            upstream.once(acts.lose_answer)
            create_twice(stack, trial, load, candidates.release_of(chats.model, model))
            created = time.time()
            candidates.await_start(stack, model, seconds=bound.seconds + 60)
            waited = time.time() - created
            judge(stack, trial, upstream, model)
            candidates.take_back(stack, load, model)
            over(trial, load, chats, bound, others=waited)
    lost = upstream.generated.total() - len({c.prompt for c in upstream.calls("complete")})
    trial.expect(lost >= len(models), f"only {lost} answers to chats were lost")
    trial.expect(not chats.codes(), f"errors {dict(chats.codes())}")
    figures = f"{len(models)} releases and loads were answered in vain, and {lost} chats"
    # Asked again while the first request is still at work, a client is told to come back.
    conclude(trial, load, chats, bound, figures, answers=ACCEPTING | {409})


def create_twice(stack, trial, load, body):
    """A client hangs up before its answer, at any instant, and asks again under its key."""
    key, project = str(uuid7()), load.projects[0]
    address = urlsplit(stack.gateway_url)
    client = HTTPConnection(address.hostname, address.port)
    headers = {
        "authorization": f"Bearer {stack.key(project)}",
        "content-type": "application/json",
        "idempotency-key": key,
    }
    client.request("POST", "/api/v1/releases", json.dumps(body), headers)
    time.sleep(trial.chance.uniform(0, 0.2))
    client.close()
    made = load.ask("/api/v1/releases", body, key, project)
    trial.expect(made is not None, "the release could not be made")


def judge(stack, trial, upstream, model):
    """One effect of each."""
    loads = len(upstream.calls("load", model))
    births = sum(count for (born, _), count in upstream.births.items() if born == model)
    releases = stack.rows("SELECT release_id FROM releases.releases WHERE model = %s", model)
    started = candidates.times_started(stack, model)
    trial.expect(loads >= 2, f"{model} was loaded {loads} times: no answer was lost")
    trial.expect(births == 1, f"{model} was brought up {births} times")
    trial.expect(len(releases) == 1, f"{model} has {len(releases)} releases")
    trial.expect(started == 1, f"{model} was put before its traffic {started} times")
