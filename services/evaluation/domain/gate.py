"""The gate: what an evaluation must show before its model may be released."""

from __future__ import annotations

from dataclasses import dataclass

from services.evaluation.domain.estimates import Estimate


@dataclass(frozen=True, slots=True)
class Bounds:
    """The gate's rules of a policy; the meaning of each is in `judge`."""

    max_regression: float
    min_exact_match: float
    max_general_perplexity_ratio: float


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule as it was applied: what was measured, what is allowed, and a sentence for people."""

    rule: str
    passed: bool
    measured: float
    bound: float
    sentence: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """All applied rules; it passes only if each of them does."""

    rules: tuple[Rule, ...]

    @property
    def passed(self) -> bool:
        return all(rule.passed for rule in self.rules)

    @property
    def reason(self) -> str:
        """The rules that fail, or all of them when none does."""
        failed = [rule for rule in self.rules if not rule.passed]
        return " ".join(rule.sentence for rule in failed or self.rules)


def judge(
    exact_match: Estimate, difference: Estimate | None, ratio: Estimate, bounds: Bounds
) -> Verdict:
    """
    Apply the rules.

    Args:
        exact_match: Of the candidate.
        difference: Exact match, candidate minus baseline; None without a baseline, and then there
            is nothing to regress from and no such rule.
        ratio: Perplexity of the general text, candidate over base.
        bounds: What is allowed.
    """
    rules = [_min_exact_match(exact_match, bounds), _max_ratio(ratio, bounds)]
    if difference is not None:
        rules.insert(0, _max_regression(difference, bounds))
    return Verdict(tuple(rules))


def _max_regression(difference: Estimate, bounds: Bounds) -> Rule:
    return Rule(
        rule="max_regression",
        passed=difference.low >= -bounds.max_regression,
        measured=difference.low,
        bound=-bounds.max_regression,
        sentence=(
            f"Exact match differs from the baseline by {difference.estimate:+.1%} "
            f"(95 % interval {difference.low:+.1%} to {difference.high:+.1%}); "
            f"the lower bound must be at least {-bounds.max_regression:+.1%}."
        ),
    )


def _min_exact_match(exact_match: Estimate, bounds: Bounds) -> Rule:
    return Rule(
        rule="min_exact_match",
        passed=exact_match.estimate >= bounds.min_exact_match,
        measured=exact_match.estimate,
        bound=bounds.min_exact_match,
        sentence=(
            f"Exact match is {exact_match.estimate:.1%} "
            f"(95 % interval {exact_match.low:.1%} to {exact_match.high:.1%}); "
            f"it must be at least {bounds.min_exact_match:.1%}."
        ),
    )


def _max_ratio(ratio: Estimate, bounds: Bounds) -> Rule:
    return Rule(
        rule="max_general_perplexity_ratio",
        passed=ratio.estimate <= bounds.max_general_perplexity_ratio,
        measured=ratio.estimate,
        bound=bounds.max_general_perplexity_ratio,
        sentence=(
            f"Perplexity on general text is {ratio.estimate:.3f} times that of the base "
            f"(95 % interval {ratio.low:.3f} to {ratio.high:.3f}); "
            f"it may be at most {bounds.max_general_perplexity_ratio:.3f} times."
        ),
    )
