"""Simulated users: they ask over a door and say whether the answer was right."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from services.cli.connection import Connection
from services.cli.demo.listings import Case, World
from services.cli.demo.material import Supply
from services.cli.errors import CommandFailed
from services.cli.waiting import POLL_SECONDS

USERS = tuple(f"u-{number:03d}" for number in range(200))
MOST_REQUESTS = 250
# A few at once: more would only wait for each other on two cores.
AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Answer:
    """One answered request; the receipt headers say who answered."""

    case: Case
    text: str
    inference_id: str
    model: str
    release: str

    @property
    def is_right(self) -> bool:
        return self.case.is_answered_by(self.text)


Hear = Callable[[Answer], None]


class Traffic:
    """Requests of all users, at most MOST_REQUESTS in all."""

    def __init__(
        self, connection: Connection, workload: str, supply: Supply, *, seed: int, max_tokens: int
    ) -> None:
        """
        Args:
            connection: To the API.
            workload: Asked by its name.
            supply: What is asked.
            seed: Of the users' order.
            max_tokens: Longest answer.
        """
        self._max_tokens = max_tokens
        self._connection = connection
        self._workload = workload
        self._supply = supply
        # Everybody has a turn before somebody has a second one.
        users = list(USERS)
        random.Random(seed).shuffle(users)
        self._users = itertools.cycle(users)
        self.sent = 0

    def drive(
        self,
        world: World,
        *,
        most: int,
        until: Callable[[], bool] = lambda: False,
        hear: Hear,
    ) -> list[Answer]:
        """
        Ask over HTTP until *most* are asked or *until* says stop; what is under way is finished.

        Args:
            world: In which the listings are written.
            most: Requests of this call.
            until: Asked every POLL_SECONDS.
            hear: What a user does with an answer.
        """
        most = min(most, self._left())
        over = _Paced(until)
        answers: list[Answer] = []
        running: set[Future[Answer]] = set()
        begun = self.sent
        with ThreadPoolExecutor(AT_ONCE) as pool:
            while True:
                while len(running) < AT_ONCE and self.sent - begun < most and not over():
                    running.add(pool.submit(self._serve, *self._next(world), hear))
                if not running:
                    return answers
                done, running = wait(running, POLL_SECONDS, return_when=FIRST_COMPLETED)
                answers += [one.result() for one in done]

    def bodies(self, world: World, count: int) -> Iterator[tuple[Case, dict[str, Any]]]:
        """Requests for another door, with the cases they ask about."""
        for _ in range(min(count, self._left())):
            case, user = self._next(world)
            yield case, self._body(case, user)

    def tell(self, answer: Answer, **more: Any) -> None:  # noqa: ANN401 - fields of a feedback
        """Feedback of a user: whether the answer was right, and what else there is to say."""
        body = {"inference_id": answer.inference_id, "success": answer.is_right, **more}
        self._connection.post("feedback", body=body)

    def correct(self, answer: Answer) -> None:
        """Feedback of a user who knows better."""
        self.tell(answer, correction=answer.case.answer)

    def _next(self, world: World) -> tuple[Case, str]:
        self.sent += 1
        return self._supply.one(world), next(self._users)

    def _left(self) -> int:
        left = MOST_REQUESTS - self.sent
        if left <= 0:
            raise CommandFailed(
                f"The demonstration's {MOST_REQUESTS} requests are spent without a decision; the "
                "numbers above say what is missing."
            )
        return left

    def _serve(self, case: Case, user: str, hear: Hear) -> Answer:
        raw = self._connection.openai.chat.completions.with_raw_response.create(
            **self._body(case, user)
        )
        text = raw.parse().choices[0].message.content or ""
        answer = answered(case, text, raw.headers)
        hear(answer)
        return answer

    def _body(self, case: Case, user: str) -> dict[str, Any]:
        return {
            "model": self._workload,
            "messages": list(case.messages),
            "temperature": 0,
            "max_tokens": self._max_tokens,
            "user": user,
        }


def answered(case: Case, text: str, headers: Any) -> Answer:  # noqa: ANN401 - a mapping of either door
    """An answer from its text and its receipt headers."""
    return Answer(
        case=case,
        text=text,
        inference_id=headers["x-inference-id"],
        model=headers["x-model"],
        release=headers["x-release"],
    )


def share_right(answers: list[Answer]) -> float:
    """Share of right answers, at least one given."""
    return sum(answer.is_right for answer in answers) / len(answers)


class _Paced:
    """Asks a question at most every POLL_SECONDS, and never again after a yes."""

    def __init__(self, question: Callable[[], bool]) -> None:
        self._question = question
        self._is_yes = False
        self._asked = float("-inf")

    def __call__(self) -> bool:
        now = time.monotonic()
        if not self._is_yes and now - self._asked >= POLL_SECONDS:
            self._asked = now
            self._is_yes = self._question()
        return self._is_yes
