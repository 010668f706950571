"""Harms of a canary against its control; they can only roll back."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from services.releases.domain.policy import CanaryPolicy, Guardrail
from shared.assignment import Arm
from shared.errors import Invalid
from shared.statistics.eprocess import ROLLBACK_BETS, EProcess, rollback_gain
from shared.statistics.pairs import Pairs, Tally

# The control's running q90 is taken over its last 100 values: enough for about 10 above it, few
# enough to follow the time of day. Fewer than 20 say nothing about a q90.
WINDOW = 100
WARM_UP = 20
QUANTILE = 0.9


@dataclass(frozen=True, slots=True)
class GuardrailFold:
    """
    Evidence on one harm so far: an error, or a value above the control's running q90.

    Attributes:
        cut: The q90 in force, in the metric's unit; None for errors and while warming up.
        recent: The control's last values, oldest first, in the metric's unit.
        canary: Harmful events of the canary's compared outcomes; so is *control*.
        has_fired: Whether the process crossed its threshold; kept, as later outcomes are ignored.
    """

    guardrail: Guardrail
    rollback: EProcess
    pending: Pairs = field(default_factory=Pairs)
    canary: Tally = field(default_factory=Tally)
    control: Tally = field(default_factory=Tally)
    pairs: int = 0
    cut: float | None = None
    recent: tuple[float, ...] = ()
    has_fired: bool = False


def begin_guardrail(guardrail: Guardrail) -> GuardrailFold:
    return GuardrailFold(guardrail, EProcess.start(ROLLBACK_BETS))


def threshold(policy: CanaryPolicy) -> float:
    """The e-value that fires: together the acting guardrails keep to alpha_rollback."""
    return max(1, len(policy.guardrails)) / policy.alpha_rollback


def fold_guardrail(
    state: GuardrailFold, policy: CanaryPolicy, arm: Arm, value: float
) -> GuardrailFold:
    """
    One more value of either arm: 1 or 0 for an error, else tokens or milliseconds.

    The cut moves only between pairs and only with the past, so both sides of a pair are measured
    with the same ruler and an equal canary's expected gain is zero.

    Raises:
        Invalid: *value* is not finite.
    """
    if not math.isfinite(value):
        raise Invalid(
            f"The guardrail {state.guardrail} needs a finite value; got {value}.",
            code="outcome_out_of_range",
            param=state.guardrail,
        )
    if state.has_fired:
        return state
    harm = _harm(state, value)
    is_canary = arm is Arm.CANARY
    if not is_canary:
        state = replace(state, recent=_remember(state, value))
    if harm is None:
        return replace(state, cut=_cut(state))
    pending, difference = state.pending.add(is_canary=is_canary, value=harm)
    state = replace(
        state,
        pending=pending,
        canary=state.canary.add(harm) if is_canary else state.canary,
        control=state.control if is_canary else state.control.add(harm),
    )
    return state if difference is None else _advance(state, policy, difference)


def _advance(state: GuardrailFold, policy: CanaryPolicy, difference: float) -> GuardrailFold:
    # An e-process gains when the canary succeeds less; more harm is less of "no harm".
    rollback = state.rollback.advance(rollback_gain(-difference, policy.guardrail_tolerance))
    return replace(
        state,
        pairs=state.pairs + 1,
        rollback=rollback,
        cut=_cut(state),
        has_fired=rollback.value >= threshold(policy),
    )


def _harm(state: GuardrailFold, value: float) -> float | None:
    if state.guardrail is Guardrail.ERROR:
        return value
    return None if state.cut is None else float(value > state.cut)


def _remember(state: GuardrailFold, value: float) -> tuple[float, ...]:
    if state.guardrail is Guardrail.ERROR:
        return ()
    return (*state.recent, value)[-WINDOW:]


def _cut(state: GuardrailFold) -> float | None:
    if len(state.recent) < WARM_UP:
        return None
    return sorted(state.recent)[math.ceil(QUANTILE * len(state.recent)) - 1]
