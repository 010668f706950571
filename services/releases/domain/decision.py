"""From a canary's state to its verdict, with the evidence and what the verdict promises."""

from __future__ import annotations

from dataclasses import dataclass

from services.releases.domain.canary import CanaryState
from services.releases.domain.guardrails import GuardrailFold, threshold
from services.releases.domain.policy import CanaryPolicy, Guardrail
from services.releases.domain.success import Verdict

SECONDS_PER_DAY = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardrailEvidence:
    """One harm: e-value against threshold, and both arms' harm rates over compared outcomes."""

    guardrail: Guardrail
    is_acting: bool
    has_fired: bool
    e_value: float
    threshold: float
    cut: float | None
    canary_outcomes: int
    canary_rate: float | None
    control_outcomes: int
    control_rate: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryEvidence:
    """What the verdict rests on. Rates lie in [0, 1]; e-values are compared with thresholds."""

    e_promote: float
    promote_threshold: float
    e_rollback: float
    rollback_threshold: float
    pairs: int
    canary_outcomes: int
    canary_rate: float | None
    control_outcomes: int
    control_rate: float | None
    e_share: float
    share_threshold: float
    units: int
    canary_units: int
    expected_canary_units: float
    elapsed_seconds: float
    guardrails: tuple[GuardrailEvidence, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """
    Attributes:
        verdict: What to do now. Inconclusive and a share mismatch keep the old release.
        share: Share of the units that the canary should have: the ramp's step while undecided, 1
            when promoted, 0 otherwise.
        reason: One sentence for people.
        guarantee: The error bounds of the procedure.
        evidence: The numbers.
    """

    verdict: Verdict
    share: float
    reason: str
    guarantee: str
    evidence: CanaryEvidence


def decide(state: CanaryState, *, elapsed_seconds: float = 0.0) -> Decision:
    """
    The verdict on the outcomes so far; may be asked as often as one likes.

    A broken assignment voids every comparison and comes first; a harm comes before a success.

    Args:
        state: After any number of outcomes.
        elapsed_seconds: Since the canary began, by the database's clock.
    """
    verdict, reason = _verdict(state, elapsed_seconds)
    return Decision(
        verdict=verdict,
        share=_share(state, verdict),
        reason=reason,
        guarantee=guarantee(state.policy),
        evidence=_evidence(state, elapsed_seconds),
    )


def guarantee(policy: CanaryPolicy) -> str:
    """What holds for this policy at any number of looks and any base rate."""
    return (
        f"P(ever promoted | success worse by {policy.margin:g} or more) <="
        f" {policy.alpha_promote:g};"
        f" P(ever rolled back | success not worse) <= {policy.alpha_rollback:g};"
        " P(ever rolled back by a guardrail | no harm more frequent by more than"
        f" {policy.guardrail_tolerance:g}) <= {policy.alpha_rollback:g};"
        f" P(ever stopped for its share | assignment as planned) <= {policy.alpha_share:g}."
        " Assumes random assignment of independent units."
    )


def _verdict(state: CanaryState, elapsed_seconds: float) -> tuple[Verdict, str]:
    fired = [part.guardrail for part in state.guardrails if _rolls_back(part, state.policy)]
    verdict = state.success.verdict
    if state.is_share_mismatched:
        return Verdict.SAMPLE_RATIO_MISMATCH, "The observed shares contradict the planned ones."
    if fired:
        return Verdict.ROLL_BACK, f"More harm than the control: {', '.join(fired)}."
    if verdict is Verdict.UNDECIDED and elapsed_seconds >= state.policy.cap_days * SECONDS_PER_DAY:
        return Verdict.INCONCLUSIVE, f"No verdict within {state.policy.cap_days:g} days."
    return verdict, _reason(state, verdict)


def _reason(state: CanaryState, verdict: Verdict) -> str:
    policy = state.policy
    return {
        Verdict.UNDECIDED: "The evidence does not settle it yet.",
        Verdict.PROMOTE: f"Success is not worse by {policy.margin:g} or more.",
        Verdict.ROLL_BACK: "Success is worse than the control's.",
        Verdict.INCONCLUSIVE: f"No verdict within {policy.cap_outcomes} canary outcomes.",
    }[verdict]


def _share(state: CanaryState, verdict: Verdict) -> float:
    if verdict is Verdict.UNDECIDED:
        return state.policy.shares[state.success.step]
    return 1.0 if verdict is Verdict.PROMOTE else 0.0


def _rolls_back(part: GuardrailFold, policy: CanaryPolicy) -> bool:
    return part.has_fired and part.guardrail in policy.guardrails


def _evidence(state: CanaryState, elapsed_seconds: float) -> CanaryEvidence:
    success, policy = state.success, state.policy
    return CanaryEvidence(
        e_promote=success.promote.value,
        promote_threshold=1 / policy.alpha_promote,
        e_rollback=success.rollback.value,
        rollback_threshold=1 / policy.alpha_rollback,
        pairs=success.pairs,
        canary_outcomes=success.canary.count,
        canary_rate=success.canary.mean,
        control_outcomes=success.control.count,
        control_rate=success.control.mean,
        e_share=state.share_test.value,
        share_threshold=1 / policy.alpha_share,
        units=state.share_test.units,
        canary_units=state.share_test.canary_units,
        expected_canary_units=state.share_test.expected_canary_units,
        elapsed_seconds=elapsed_seconds,
        guardrails=tuple(_guardrail_evidence(part, policy) for part in state.guardrails),
    )


def _guardrail_evidence(part: GuardrailFold, policy: CanaryPolicy) -> GuardrailEvidence:
    return GuardrailEvidence(
        guardrail=part.guardrail,
        is_acting=part.guardrail in policy.guardrails,
        has_fired=part.has_fired,
        e_value=part.rollback.value,
        threshold=threshold(policy),
        cut=part.cut,
        canary_outcomes=part.canary.count,
        canary_rate=part.canary.mean,
        control_outcomes=part.control.count,
        control_rate=part.control.mean,
    )
