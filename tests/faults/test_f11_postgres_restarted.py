"""F-11: kill -9 of the Postgres server, half a second to three seconds down, inside one load."""

from __future__ import annotations

import json
import math
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

from sqlalchemy import make_url

from tests.faults.load import BASE, Rates
from tests.faults.trial import REFUSING, Bound, bound_of_ringing
from tests.faults.watching import until
from tests.integration.inference.inference_doors import Directed, served

FAULT = "F-11"
# Refused connections are told at once; this much is the machine's.
ANSWER_SECONDS = 5.0


def test_restarted_postgres_loses_and_doubles_nothing(stack, trial):
    """Postgres killed, and started again on its data.

    Guarantee: the API answers 503 with Retry-After, never 500, and keeps nobody waiting; what it
    or a commit refused never happened; every pool recovers by itself.
    """
    settings = stack.settings
    bound = bound_of_ringing(settings)
    away, api_back = [], []
    with trial.load() as load:
        for _ in trial.rounds():
            trial.pause()
            away.append(trial.chance.uniform(0.5, 3))
            stack.restart_postgres(down_seconds=away[-1])
            back = time.time()
            trial.recovered(load, bound, cut_off=stack.layout.workers)
            # It may not have been asked yet.
            until(lambda: load.api_after(back) < math.inf, what="the API is back")  # noqa: B023
            api_back.append(load.api_after(back))
    again = settings.database_connect_seconds + settings.database_pool_seconds
    trial.expect_timely(
        max(api_back) <= again, f"the API was back only after {max(api_back):.1f} s"
    )
    trial.note(
        f"Postgres was away for {sum(away):.1f} s, the API answered {dict(load.answers)}, "
        f"and did what it was asked for {max(api_back):.1f} s after Postgres was back, or sooner"
    )
    trial.contradictions += load.unfit_answers(within_seconds=ANSWER_SECONDS)
    trial.conclude(load, bound, answers=REFUSING)


def test_inference_answers_while_postgres_is_away(stack, trial):
    """Postgres killed for two to three seconds, seen by those who ask a model.

    Guarantee: every request is answered as if Postgres were there, and has its record afterwards.
    """
    bound = Bound(
        stack.settings.database_pool_seconds + 5,
        f"a connection is waited for at most {stack.settings.database_pool_seconds} s, connecting "
        "again and shipping what waits take the machine 5 s",
    )
    shipped = []
    with trial.load(Rates(probes=6, phased=0, jobs=0, api=0), projects=1) as load:
        asking = Asking(stack.gateway_url, stack.key(load.projects[0]))
        with model_server(stack), asking.steadily():
            for _ in trial.rounds(5):
                until(asking.since_now(3), what="requests are answered")
                stack.restart_postgres(down_seconds=trial.chance.uniform(2, 3))
                back, answered = time.time(), set(asking.answered)
                trial.recovered(load, bound, cut_off=stack.layout.workers)
                until(lambda: not answered - recorded(stack), what="records arrive")  # noqa: B023
                shipped.append(time.time() - back)
    until(lambda: not set(asking.answered) - recorded(stack), what="all records arrive")
    trial.recoveries.append(max(shipped))
    trial.contradictions += [f"{each} instead of an answer" for each in asking.failures]
    trial.expect(len(asking.answered) == len(set(asking.answered)), "two answers have one id")
    trial.note(
        f"{len(asking.answered)} requests answered in at most {asking.slowest_seconds:.2f} s, "
        f"records there at most {max(shipped):.1f} s after Postgres was back"
    )
    trial.conclude(load, bound, answers=REFUSING)


@contextmanager
def model_server(stack):
    """A stand-in where the gateway of *stack* looks for its model server."""
    directed = Directed()
    with served(directed.app(), make_url(stack.settings.serving_url).port) as directed.url:
        yield directed


def recorded(stack):
    """Inference ids of all records."""
    return {row[0] for row in stack.rows("SELECT inference_id::text FROM inference.records")}


class Asking:
    """Somebody who asks a model again and again, and takes every answer but 200 for a failure."""

    def __init__(self, url, key):
        self._request = urllib.request.Request(
            f"{url}/v1/chat/completions",
            data=json.dumps(
                {"model": BASE, "messages": [{"role": "user", "content": "hi"}]}
            ).encode(),
            headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
        )
        self._stopping = threading.Event()
        self.answered: list[str] = []
        self.failures: list[str] = []
        self.slowest_seconds = 0.0

    def since_now(self, count):
        """Whether *count* more were answered."""
        goal = len(self.answered) + count
        return lambda: len(self.answered) >= goal

    @contextmanager
    def steadily(self):
        thread = threading.Thread(target=self._ask_on, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            thread.join(timeout=40)

    def _ask_on(self):
        while not self._stopping.wait(0.05):
            began = time.monotonic()
            try:
                with urllib.request.urlopen(self._request, timeout=30) as answer:
                    self.answered.append(answer.headers["x-inference-id"])
            except (OSError, urllib.error.URLError) as error:
                self.failures.append(str(error))
            self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - began)
