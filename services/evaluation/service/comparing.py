"""The step that compares answers with the recorded ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from services.evaluation import repository
from services.evaluation.domain.agreement import Comparison
from services.evaluation.domain.grading import grade
from services.evaluation.models import EvaluationRow
from services.evaluation.repository import AnswerPair
from services.evaluation.service.evaluator import Evaluator, Record, Suite
from shared.db import UnitOfWork
from shared.rendering.bases import BaseModel
from shared.rendering.tokenizer import encode

# Of a longer answer the beginning is embedded, so that a single pair fits into a step: three such
# texts, each twice, take 6 s at 140 tokens a second, measured on two cores that were busy.
_READ_TOKENS = 128
# Characters; what lies beyond so many for each token is not even tokenised.
_LONGEST_TOKEN = 64

Vectors = Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class CompareAnswers:
    """How near the next answers are to the recorded ones, up to a number of tokens to embed."""

    suite: Suite
    pairs: Sequence[AnswerPair]
    max_tokens: int

    def perform(self, evaluator: Evaluator) -> Record:
        base = self.suite.subjects.base
        chosen, tokens = choose_pairs(base, self.pairs, self.max_tokens)
        vectors = evaluator.server.embed(
            list(tokens.values()), base=base.name, seconds=evaluator.settings.step_seconds
        )
        embedded = dict(zip(tokens, vectors, strict=True))
        return partial(_record_comparisons, [(pair, compare(pair, embedded)) for pair in chosen])


def choose_pairs(
    base: BaseModel, pairs: Sequence[AnswerPair], max_tokens: int
) -> tuple[Sequence[AnswerPair], dict[str, list[int]]]:
    """The next pairs whose texts fit into *max_tokens*, at least one; and the tokens by text."""
    tokens: dict[str, list[int]] = {}
    used = 0
    for number, pair in enumerate(pairs):
        new = {text: read_twice(base, text) for text in _texts(pair) if text not in tokens}
        used += sum(map(len, new.values()))
        if number > 0 and used > max_tokens:
            return pairs[:number], tokens
        tokens |= new
    return pairs, tokens


def compare(pair: AnswerPair, vectors: Vectors) -> Comparison:
    """
    Args:
        pair: The answers.
        vectors: Embeddings of length 1 by text, of every text of the pair that has any.
    """
    answer = pair.answer or ""
    graded = grade(pair.recorded, answer)
    return Comparison(
        exact=graded.exact and pair.answer is not None,
        fields=graded.fields,
        cosine=_cosine(vectors.get(answer), vectors.get(pair.recorded)),
        mismatched=_cosine(vectors.get(pair.recorded), vectors.get(pair.other or "")),
    )


def read_twice(base: BaseModel, text: str) -> list[int]:
    """
    Tokens that stand for a text in an embedding: the text, and once more.

    What a decoder reads first it reads without knowing what follows; only at the second reading
    does every word see the whole text. Source: Springer et al. 2024, "Repetition improves language
    model embeddings"; what it brings here is in decision 0021.
    """
    once = encode(base, text[: _READ_TOKENS * _LONGEST_TOKEN])[:_READ_TOKENS]
    return [*once, *encode(base, "\n"), *once]


def _texts(pair: AnswerPair) -> list[str]:
    """What must be embedded for a pair; an answer that is the recorded one need not."""
    answer, recorded, other = pair.answer or "", pair.recorded, pair.other or ""
    if not recorded.strip():
        return []
    compared = [] if grade(recorded, answer).exact else [answer]
    found = [text for text in (*compared, other) if text.strip()]
    return [recorded, *found] if found else []


def _cosine(left: Sequence[float] | None, right: Sequence[float] | None) -> float | None:
    if left is None or right is None:
        return None
    product = sum(ours * theirs for ours, theirs in zip(left, right, strict=True))
    return min(1.0, max(-1.0, product))


def _record_comparisons(
    compared: Sequence[tuple[AnswerPair, Comparison]], uow: UnitOfWork, row: EvaluationRow
) -> None:
    for pair, comparison in compared:
        repository.record_comparison(uow, row.id, pair.line, comparison)
