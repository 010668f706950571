"""What the cases of one side add up to, each number with its interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from statistics import fmean, quantiles

from services.evaluation.domain.estimates import (
    SEED,
    Estimate,
    mean,
    perplexity,
    share,
    share_of_fields,
)
from shared.statistics.intervals import bootstrap_ratio


@dataclass(frozen=True, slots=True)
class CaseResult:
    """
    One case as one side answered it. Of a recorded answer the likelihood is unknown, and what was
    not recorded with it; such a number is None.

    Attributes:
        exact: The answer is the expected one.
        fields: As in `Grade`.
        nll: Sum of negative log-likelihoods of the expected answer's tokens, nats.
        target_tokens: Number of these tokens, >= 1.
        latency_ms: From request to whole answer.
        input_tokens: Of the prompt.
        output_tokens: Of the answer.
        is_cut: The answer reached the longest length.
        error: Why there is no answer, or None.
    """

    exact: bool
    fields: dict[str, bool] | None
    nll: float | None
    target_tokens: int
    latency_ms: float | None
    input_tokens: int | None
    output_tokens: int | None
    is_cut: bool = False
    error: str | None = None


@dataclass(frozen=True, slots=True)
class TextScore:
    """Likelihood of a text, paragraph by paragraph: sums in nats, and scored tokens."""

    nll: tuple[float, ...]
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds for whole answers, under the concurrency of the evaluation itself."""

    mean_ms: float
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True, slots=True)
class SideMetrics:
    """
    Attributes:
        exact_match: Share of cases answered exactly.
        json_cases: Cases in which a JSON object is expected.
        field_accuracy: Share of all expected fields with the right value; None without JSON cases.
        fields: The same for each field.
        target_perplexity: Of the expected answers, per token; None where a likelihood is unknown.
        general_perplexity: Of the general text, per token; None without a model that read it.
        latency: Of the answers it is known of; None when there is none.
        input_tokens: Of all cases; None unless it is known of every answer.
        output_tokens: Likewise.
        cut_answers: Answers that reached the longest length.
        failed_answers: Cases the model refused to answer.
    """

    cases: int
    exact_match: Estimate
    json_cases: int
    field_accuracy: Estimate | None
    fields: dict[str, Estimate]
    target_perplexity: Estimate | None
    general_perplexity: Estimate | None
    latency: Latency | None
    input_tokens: int | None
    output_tokens: int | None
    cut_answers: int
    failed_answers: int


def measure(results: Sequence[CaseResult], general: TextScore | None) -> SideMetrics:
    """
    All metrics of one side.

    Args:
        results: At least one case.
        general: Likelihood of the general text under this side's model; None without a model.

    Raises:
        Invalid: There is no case.
    """
    return SideMetrics(
        cases=len(results),
        exact_match=share([result.exact for result in results]),
        json_cases=sum(result.fields is not None for result in results),
        field_accuracy=share_of_fields([result.fields for result in results]),
        fields=_fields(results),
        target_perplexity=_target_perplexity(results),
        general_perplexity=None if general is None else perplexity(general.nll, general.tokens),
        latency=_latency([case.latency_ms for case in results if case.latency_ms is not None]),
        input_tokens=_total(results, attrgetter("input_tokens")),
        output_tokens=_total(results, attrgetter("output_tokens")),
        cut_answers=sum(result.is_cut for result in results),
        failed_answers=sum(result.error is not None for result in results),
    )


def exact_difference(candidate: Sequence[CaseResult], baseline: Sequence[CaseResult]) -> Estimate:
    """
    Exact match of the candidate minus the baseline's, by paired bootstrap.

    Args:
        candidate: Cases, shape (n,), n >= 1.
        baseline: The same cases in the same order.

    When no case differs the interval has no width: few cases then prove less than it shows.
    """
    pairs = zip(candidate, baseline, strict=True)
    return mean([float(ours.exact) - theirs.exact for ours, theirs in pairs])


def perplexity_ratio(model: TextScore, base: TextScore) -> Estimate:
    """
    Perplexity of the general text, model over base, paragraphs drawn together.

    Args:
        model: Scores of the model.
        base: Scores of its base on the same paragraphs.
    """
    pairs = zip(model.nll, base.nll, strict=True)
    log_ratio = bootstrap_ratio([ours - theirs for ours, theirs in pairs], base.tokens, seed=SEED)
    return Estimate(*(math.exp(bound) for bound in log_ratio))


def _fields(results: Sequence[CaseResult]) -> dict[str, Estimate]:
    hits: dict[str, list[bool]] = {}
    for result in results:
        for name, is_right in (result.fields or {}).items():
            hits.setdefault(name, []).append(is_right)
    return {name: share(seen) for name, seen in hits.items()}


def _target_perplexity(results: Sequence[CaseResult]) -> Estimate | None:
    nll = [result.nll for result in results if result.nll is not None]
    if len(nll) < len(results):
        return None
    return perplexity(nll, [result.target_tokens for result in results])


def _latency(milliseconds: Sequence[float]) -> Latency | None:
    if not milliseconds:
        return None
    if len(milliseconds) == 1:
        return Latency(milliseconds[0], milliseconds[0], milliseconds[0])
    cuts = quantiles(milliseconds, n=20, method="inclusive")
    return Latency(mean_ms=fmean(milliseconds), p50_ms=cuts[9], p95_ms=cuts[18])


def _total(results: Sequence[CaseResult], tokens: Callable[[CaseResult], int | None]) -> int | None:
    # Part of a sum says nothing beside the other side's.
    if any(tokens(result) is None for result in results if result.error is None):
        return None
    return sum(tokens(result) or 0 for result in results)
