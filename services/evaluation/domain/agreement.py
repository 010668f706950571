"""
How far a model says what another one said: exactly, field by field, and in other words.

Nearness in other words is the cosine of two embeddings, put on a scale on which 1 is the same text
and 0 is as near as answers to different rows are: s = (cos - m) / (1 - m) with their mean cosine m,
as in BERTScore (Zhang et al. 2020, "Baseline Rescaling"). Here s stays within [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from services.evaluation.domain.estimates import Estimate, mean, share, share_of_fields

# Of answers to different rows at most one in a hundred is this near; decision 0021 has the numbers.
SEMANTIC_SIMILARITY = 0.7
# Nearer to each other than this, the answers of different rows leave no scale to measure on.
_NARROWEST_SCALE = 1e-3


@dataclass(frozen=True, slots=True)
class Comparison:
    """
    One answer beside the recorded one.

    Attributes:
        exact: They are the same, as `grade` tells it.
        fields: As in `Grade`, the recorded answer being the expected one.
        cosine: Of their embeddings, in [-1, 1]; None where one of them is empty.
        mismatched: Cosine of the recorded answer and a different one of another row; None when
            there is none, or one of the two is empty.
    """

    exact: bool
    fields: dict[str, bool] | None
    cosine: float | None
    mismatched: float | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """
    Attributes:
        cases: Rows of which an answer was recorded; the shares are of these.
        exact: Share of the same answers.
        fields: Share of fields with the same value; None where no JSON objects were recorded.
        semantic: Share of answers at least `SEMANTIC_SIMILARITY` near.
        similarity: Mean nearness, in [0, 1].
        background: Mean cosine of recorded answers to different rows, the zero of the scale; None
            when there is no scale, and then only the same answers are near.
    """

    cases: int
    exact: Estimate
    fields: Estimate | None
    semantic: Estimate
    similarity: Estimate
    background: float | None


def agree(comparisons: Sequence[Comparison]) -> Agreement | None:
    """What the comparisons of an evaluation add up to; None without any."""
    if not comparisons:
        return None
    zero = _background(comparisons)
    near = [similarity(comparison, zero) for comparison in comparisons]
    return Agreement(
        cases=len(comparisons),
        exact=share([comparison.exact for comparison in comparisons]),
        fields=share_of_fields([comparison.fields for comparison in comparisons]),
        semantic=share([value >= SEMANTIC_SIMILARITY for value in near]),
        similarity=mean(near),
        background=zero,
    )


def similarity(comparison: Comparison, background: float | None) -> float:
    """
    Nearness of two answers in [0, 1].

    Args:
        comparison: Of the two.
        background: The zero of the scale, as in `Agreement`.
    """
    if comparison.exact:
        return 1.0
    if comparison.cosine is None or background is None:
        return 0.0
    return min(1.0, max(0.0, (comparison.cosine - background) / (1 - background)))


def _background(comparisons: Sequence[Comparison]) -> float | None:
    cosines = [found.mismatched for found in comparisons if found.mismatched is not None]
    if not cosines or 1 - fmean(cosines) < _NARROWEST_SCALE:
        return None
    return fmean(cosines)
