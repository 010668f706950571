"""What inference needs from the world."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from services.inference.domain.generation import Piece, Sampling, TokenProbability
from services.inference.domain.routing import Served


class Upstream(Protocol):
    """Something that generates."""

    def generate(
        self, served: Served, prompt: Sequence[int], sampling: Sampling, *, is_streamed: bool
    ) -> AsyncIterator[Piece]:
        """
        The answer to *prompt*, piece by piece, or as one piece.

        Closing the iterator, or cancelling the task that waits for it, stops the generation.

        Raises:
            Invalid: The request cannot be carried out as it is; trying again does not help.
            Unavailable: It did not work this time; `retry_after` is what the other side asked for.
        """
        ...


class Scoring(Protocol):
    """Probabilities of given tokens, and vectors of given texts."""

    async def score(
        self, served: Served, token_ids: Sequence[int], *, top_logprobs: int
    ) -> tuple[TokenProbability, ...]:
        """One entry per token; the first has no probability. Raises as `Upstream.generate`."""
        ...

    async def embed(self, served: Served, inputs: Sequence[Sequence[int]]) -> list[list[float]]:
        """One vector of length 1 per input. Raises as `Upstream.generate`."""
        ...
