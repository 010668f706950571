"""Callers who ask a model through the gateway while a simulated model server misbehaves.

The upstream of F-14 to F-19 is here the model server; for a provider of jobs see `training.py`.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import re
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from sqlalchemy import make_url

from shared.testing.upstream import Upstream
from tests.faults.layout import Layout
from tests.faults.load import BASE, CANARY, Load, Rates
from tests.faults.stack import Stack
from tests.faults.trial import ACCEPTING, Bound, Trial
from tests.faults.watching import until

STANDS_FOR = "the upstream is the model server, played by a simulator"

CALLERS = 6
# Of a class of requests: the deadline that is scaled down from 30 s.
TOTAL_SECONDS = 3.0
LONGEST_PAUSE_SECONDS = 0.4
FIRST_PAUSE_SECONDS = 0.2
# An answer of ours, between all that two cores do besides.
MACHINE_SECONDS = 5.0
# One more than callers need: those that are never given back keep callers out.
SEATS = CALLERS + 1

LAYOUT = Layout(
    settings=(
        ("inference_total_seconds", TOTAL_SECONDS),
        ("inference_attempt_seconds", TOTAL_SECONDS / 2),
        ("inference_breaker_pause_seconds", FIRST_PAUSE_SECONDS),
        ("inference_breaker_longest_pause_seconds", LONGEST_PAUSE_SECONDS),
        ("inference_max_running_per_model", SEATS),
    )
)

# What the simulator says to everything, but for the number.
_WHOLE = re.compile(r"The answer is \d+\.")


@dataclass(frozen=True)
class Reply:
    """
    What one request came to.

    Attributes:
        caller: Who asked.
        began: Unix time.
        seconds: Until the last byte.
        status: Of HTTP; 0 is no answer at all.
        code: Of the error, whether it is the body or an event of the stream.
        inference_id: None where the answer has none.
        is_whole: Whether it has an end and no error.
    """

    caller: int
    began: float
    seconds: float
    status: int
    code: str | None = None
    retry_after: str | None = None
    inference_id: str | None = None
    model: str | None = None
    text: str = ""
    is_whole: bool = False


class Chats:
    """A steady load of chat completions of one project, and every reply."""

    def __init__(
        self, stack: Stack, project: str, *, model: str = BASE, streams: bool | None = None
    ) -> None:
        """
        Args:
            stack: Its gateway is asked.
            project: Who asks.
            model: Or the name of a workload.
            streams: Whether all requests are streamed; None is every other.
        """
        self.stack = stack
        self.project = project
        self.replies: list[Reply] = []
        self.model = model
        self._streams = streams
        self._numbers = itertools.count()
        self._stopping = threading.Event()

    @contextlib.contextmanager
    def steadily(self) -> Iterator[None]:
        """Ask for the length of a block; it begins when every caller has had an answer."""
        self.stack.key(self.project)
        until(self._is_answered, what="the first chat is answered")
        threads = [
            threading.Thread(target=self._ask_on, args=(caller,), daemon=True)
            for caller in range(CALLERS)
        ]
        for thread in threads:
            thread.start()
        try:
            self.answered_after(time.time())
            yield
        finally:
            self._stopping.set()
            for thread in threads:
                thread.join(timeout=40)

    def after(self, instant: float) -> list[Reply]:
        """Replies to requests that began after a Unix time."""
        return [reply for reply in tuple(self.replies) if reply.began > instant]

    def answered_after(self, instant: float) -> float:
        """
        Wait until the base itself, and no fallback, has answered every caller in full.

        Returns:
            How many seconds after a Unix time that was, of requests that began after it.
        """

        def firsts() -> dict[int, float]:
            found: dict[int, float] = {}
            for reply in self.after(instant):
                if reply.is_whole and reply.model == BASE:
                    found.setdefault(reply.caller, reply.began + reply.seconds)
            return found if len(found) == CALLERS else {}

        return max(until(firsts, what="every caller is answered").values()) - instant

    def codes(self) -> Counter[str]:
        """Errors so far, by code."""
        return Counter(reply.code for reply in tuple(self.replies) if reply.code)

    def contradictions(self) -> list[str]:
        """What every trial of this kind must not see: unfit answers, and records that differ."""
        replies = list(self.replies)
        strange = Counter(r.status for r in replies if r.status not in (200, 503))
        bare = sum(r.status == 503 and not r.retry_after for r in replies)
        made_up = [r.text for r in replies if r.is_whole and not _WHOLE.fullmatch(r.text)]
        return [
            *([f"answers {dict(strange)} (0 is none)"] if strange else []),
            *([f"{bare} answers 503 had no Retry-After"] if bare else []),
            *([f"answers nobody gave, for example {made_up[0]!r}"] if made_up else []),
            *self._records_differ(replies),
        ]

    def _records_differ(self, replies: list[Reply]) -> Iterator[str]:
        ids = Counter(reply.inference_id for reply in replies)
        until(lambda: set(ids) <= {row[0] for row in self._records()}, what="records arrive")
        records = self._records()
        if doubled := sum(count > 1 for count in ids.values()):
            yield f"{doubled} inference ids were given twice"
        if len(records) != len(replies):
            yield f"{len(records)} records of {len(replies)} replies"
        statuses = dict(records)
        wrong = [
            reply
            for reply in replies
            if statuses.get(reply.inference_id) != ("ok" if reply.is_whole else "error")
        ]
        if wrong:
            yield f"{len(wrong)} replies differ from their record, for example {wrong[0]}"

    def _records(self) -> list[tuple[str, str]]:
        return self.stack.rows(
            "SELECT inference_id, status FROM inference.records WHERE project = %s", self.project
        )

    def _is_answered(self) -> bool:
        reply = self._ask(0, next(self._numbers))
        # A new workload is known with the gateway's next snapshot, and a new key too.
        if reply.status in (401, 404):
            return False
        self.replies.append(reply)
        return reply.is_whole

    def _ask_on(self, caller: int) -> None:
        while not self._stopping.wait(0.1):
            self.replies.append(self._ask(caller, next(self._numbers)))

    def _ask(self, caller: int, number: int) -> Reply:
        is_streamed = number % 2 == 0 if self._streams is None else self._streams
        question = {"role": "user", "content": f"{CANARY} {number}"}
        request = urllib.request.Request(
            f"{self.stack.gateway_url}/v1/chat/completions",
            data=json.dumps(
                {"model": self.model, "messages": [question], "stream": is_streamed}
            ).encode(),
            headers={
                "authorization": f"Bearer {self.stack.key(self.project)}",
                "content-type": "application/json",
            },
        )
        began, status, headers, said = time.time(), 0, {}, {}
        try:
            with _opened(request) as answer:
                status, headers = answer.status, answer.headers
                body = answer.read()
            said = _heard(body) if is_streamed and status == 200 else _read(body)
        except (OSError, ValueError, http.client.HTTPException) as error:
            status, said = 0, {"code": type(error).__name__}
        return Reply(
            caller=caller,
            began=began,
            seconds=time.time() - began,
            status=status,
            retry_after=headers.get("retry-after"),
            inference_id=headers.get("x-inference-id"),
            model=headers.get("x-model"),
            **said,
        )


def _opened(request: urllib.request.Request):
    """The answer, whatever its status."""
    try:
        return urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as error:
        return error


def _read(body: bytes) -> dict[str, object]:
    answer = json.loads(body)
    if "error" in answer:
        return {"code": answer["error"]["code"]}
    (choice,) = answer["choices"]
    return {"text": choice["message"]["content"], "is_whole": choice["finish_reason"] == "stop"}


def _heard(body: bytes) -> dict[str, object]:
    *lines, last = [line.removeprefix("data: ") for line in body.decode().split("\n\n") if line]
    if last != "[DONE]":
        raise ValueError("a stream without its end")
    events = [json.loads(line) for line in lines]
    choices = [choice for event in events for choice in event.get("choices", ())]
    code = next((event["error"]["code"] for event in events if "error" in event), None)
    return {
        "code": code,
        "text": "".join(choice["delta"].get("content") or "" for choice in choices),
        "is_whole": code is None and any(c["finish_reason"] == "stop" for c in choices),
    }


@contextlib.contextmanager
def model_server(stack: Stack) -> Iterator[Upstream]:
    """The simulator where the gateway and the workers look for their model server."""
    with Upstream(port=make_url(stack.settings.serving_url).port) as upstream:
        yield upstream


@contextlib.contextmanager
def chatting(
    stack: Stack,
    trial: Trial,
    *,
    streams: bool | None = None,
    prepare: Callable[[Load, Upstream], str] = lambda _load, _upstream: BASE,
) -> Iterator[tuple[Load, Upstream, Chats]]:
    """Chats beside a small load of the spine; *prepare* says which model they ask."""
    with (
        trial.load(Rates(probes=2, phased=0, jobs=0, api=0), projects=1) as load,
        model_server(stack) as upstream,
    ):
        chats = Chats(stack, load.projects[0], model=prepare(load, upstream), streams=streams)
        with chats.steadily():
            yield load, upstream, chats


def over(trial: Trial, load: Load, chats: Chats, bound: Bound, *, others: float = 0.0) -> None:
    """
    The fault of a round has just ended: until all callers are answered, and the spine goes on.

    Args:
        trial: Gets the slowest of all as the recovery of the round.
        load: Of the spine.
        chats: Of the callers.
        bound: See `Trial.recovered`.
        others: Seconds that others took.
    """
    seconds = chats.answered_after(time.time())
    trial.recovered(load, bound)
    trial.recoveries[-1] = max(trial.recoveries[-1], seconds, others)


def conclude(
    trial: Trial,
    load: Load,
    chats: Chats,
    bound: Bound,
    figures: str,
    *,
    answers: Collection[int] = ACCEPTING,
) -> None:
    """As `Trial.conclude`, with what holds for every chat."""
    trial.note(STANDS_FOR)
    trial.note(
        f"{len(chats.replies)} chats, {sum(r.is_whole for r in chats.replies)} answered in full, "
        f"errors {dict(chats.codes())}; {figures}"
    )
    trial.contradictions += chats.contradictions()
    trial.conclude(load, bound, answers=answers)
