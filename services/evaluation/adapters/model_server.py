"""What evaluation asks of the model server: greedy answers, likelihoods and embeddings."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import httpx2
from pydantic import BaseModel, ConfigDict, ValidationError

from shared.errors import Unavailable
from shared.serving_answers import read_retry_after
from shared.serving_client import ServingClient, TokensToScore
from shared.whole_answers import ask_within

_MILLISECONDS = 1000.0


@dataclass(frozen=True, slots=True)
class Weights:
    """
    A model as the model server takes it.

    Attributes:
        name: Id under which it is resident.
        base: Name of its base.
        gguf: Adapter file for answers; None for the base itself.
        peft: Adapter folder for likelihoods; None for the base itself.
    """

    name: str
    base: str
    gguf: str | None = None
    peft: str | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt for one model.

    Attributes:
        url: Where `load` said the model answers.
        prompt: Token ids.
        max_tokens: Longest answer.
    """

    url: str
    prompt: Sequence[int]
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Reply:
    """
    Attributes:
        text: The answer; empty when the model refused the prompt.
        latency_ms: From request to whole answer.
        output_tokens: Length of the answer.
        is_cut: It reached the longest length.
        error: Why the prompt was refused, or None.
    """

    text: str
    latency_ms: float
    output_tokens: int
    is_cut: bool
    error: str | None = None


class _Answer(BaseModel):
    """A whole answer of llama.cpp, as far as it matters here."""

    model_config = ConfigDict(strict=True, extra="ignore")

    content: str
    stop: Literal[True]
    stop_type: Literal["eos", "word", "limit"]
    tokens_predicted: int


@dataclass(slots=True)
class _Turn:
    """The time of one group of questions, monotonic seconds; shared by their threads."""

    ends_at: float
    slowest_seconds: float = 0.0
    failure: Unavailable | None = None


class ModelServer:
    """The model server and the processes behind it."""

    def __init__(self, client: ServingClient) -> None:
        self._client = client
        # The children are on our own network; a proxy has no business there.
        self._http = httpx2.Client(trust_env=False)

    def load(self, weights: Weights, *, seconds: float) -> str:
        """Make a model resident within *seconds*; returns where it answers."""
        loaded = self._client.load(
            weights.name, base=weights.base, adapter=weights.gguf, timeout_seconds=seconds
        )
        return loaded.url

    def answer(
        self, questions: Sequence[Question], *, at_once: int, seconds: float
    ) -> list[Reply | None]:
        """
        Answer as many questions as the time allows, greedily, in order.

        Args:
            questions: At least one.
            at_once: How many are under way together.
            seconds: Time for all of them. A question is begun only while there is time left for
                the slowest so far, so that no work is thrown away.

        Returns:
            A reply for each question in order, or None where time ran out or a model failed; after
            a failure no further question is begun, and what was answered is kept.

        Raises:
            Unavailable: No question was answered.
        """
        turn = _Turn(ends_at=time.monotonic() + seconds)
        with ThreadPoolExecutor(min(at_once, len(questions))) as pool:
            replies = list(pool.map(lambda question: self._ask(question, turn), questions))
        if not any(replies):
            raise turn.failure or Unavailable(
                f"No answer within {seconds:.0f} s; the machine is overloaded.",
                code="answers_too_slow",
            )
        return replies

    def score(
        self, weights: Weights, sequences: Sequence[TokensToScore], *, seconds: float
    ) -> list[float]:
        """Sum of negative log-likelihoods of each sequence's scored tokens, nats."""
        scores = self._client.score(
            sequences, base=weights.base, adapter=weights.peft, timeout_seconds=seconds
        )
        return [-sum(score.logprobs) for score in scores]

    def embed(
        self, inputs: Sequence[Sequence[int]], *, base: str, seconds: float
    ) -> list[list[float]]:
        """One vector of length 1 for each text, given as tokens; none of none."""
        if not inputs:
            return []
        return self._client.embed(inputs, base=base, timeout_seconds=seconds)

    def _ask(self, question: Question, turn: _Turn) -> Reply | None:
        started = time.monotonic()
        if turn.failure or started + turn.slowest_seconds > turn.ends_at:
            return None
        try:
            answer = self._post(question, seconds=max(0.1, turn.ends_at - started))
            seconds = time.monotonic() - started
            reply = _reply(answer, seconds * _MILLISECONDS)
        except httpx2.TimeoutException:
            return None
        except Unavailable as error:
            turn.failure = error
            return None
        turn.slowest_seconds = max(turn.slowest_seconds, seconds)
        return reply

    def _post(self, question: Question, *, seconds: float) -> httpx2.Response:
        body = {
            "prompt": list(question.prompt),
            "n_predict": question.max_tokens,
            "temperature": 0,
        }
        url = f"{question.url}/completion"
        try:
            return ask_within(self._http, "POST", url, body=body, seconds=seconds)
        except httpx2.TimeoutException:
            raise
        except httpx2.HTTPError as error:
            raise Unavailable(
                f"The model at {question.url} does not answer ({type(error).__name__}).",
                code="model_unavailable",
            ) from error


def prefixed(prompt: Sequence[int], target: Sequence[int]) -> TokensToScore:
    """Ask for the likelihood of *target* after *prompt*."""
    scored: Iterator[bool] = (i >= len(prompt) for i in range(len(prompt) + len(target)))
    return TokensToScore([*prompt, *target], list(scored))


def _reply(answer: httpx2.Response, latency_ms: float) -> Reply:
    if answer.status_code == 400:
        # The only thing that differs between our requests is the prompt: it is too long.
        return Reply("", latency_ms, 0, is_cut=False, error="prompt_refused")
    if not answer.is_success:
        raise Unavailable(
            f"The model answered {answer.status_code}; it was stopped or is starting.",
            code="model_unavailable",
            retry_after=read_retry_after(answer),
        )
    try:
        said = _Answer.model_validate_json(answer.content)
    except ValidationError as error:
        # Without its message, which quotes the answer.
        raise Unavailable("The model's answer cannot be read.", code="model_broken") from error
    return Reply(
        # Postgres stores no NUL in a text.
        text=said.content.replace("\0", "\ufffd"),
        latency_ms=latency_ms,
        output_tokens=said.tokens_predicted,
        is_cut=said.stop_type == "limit",
    )
