"""The canary's success against the control's: two e-processes on fresh pairs, and the ramp."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

from services.releases.domain.policy import CanaryPolicy
from shared.assignment import Arm
from shared.statistics.eprocess import (
    PROMOTE_BETS,
    ROLLBACK_BETS,
    EProcess,
    promote_gain,
    rollback_gain,
)
from shared.statistics.pairs import Pairs, Tally


class Verdict(StrEnum):
    UNDECIDED = "undecided"
    PROMOTE = "promote"
    ROLL_BACK = "roll_back"
    INCONCLUSIVE = "inconclusive"
    SAMPLE_RATIO_MISMATCH = "sample_ratio_mismatch"


@dataclass(frozen=True, slots=True)
class SuccessFold:
    """
    Evidence on the success metric so far.

    The verdict is kept from the first outcome that settles it; later outcomes change nothing. So it
    makes no difference in which batches a feed is folded.
    """

    promote: EProcess
    rollback: EProcess
    ramps: tuple[EProcess, ...]
    pending: Pairs = field(default_factory=Pairs)
    canary: Tally = field(default_factory=Tally)
    control: Tally = field(default_factory=Tally)
    pairs: int = 0
    step: int = 0
    verdict: Verdict = Verdict.UNDECIDED


def begin_success(policy: CanaryPolicy) -> SuccessFold:
    return SuccessFold(
        promote=EProcess.start(PROMOTE_BETS),
        rollback=EProcess.start(ROLLBACK_BETS),
        ramps=tuple(EProcess.start(PROMOTE_BETS) for _ in policy.shares[1:]),
    )


def fold_success(state: SuccessFold, policy: CanaryPolicy, arm: Arm, value: float) -> SuccessFold:
    """
    One more outcome of either arm; *value* in [0, 1].

    Raises:
        Invalid: *value* lies outside [0, 1].
    """
    if state.verdict is not Verdict.UNDECIDED:
        return state
    is_canary = arm is Arm.CANARY
    pending, difference = state.pending.add(is_canary=is_canary, value=value)
    state = replace(
        state,
        pending=pending,
        canary=state.canary.add(value) if is_canary else state.canary,
        control=state.control if is_canary else state.control.add(value),
    )
    if difference is not None:
        state = _advance(state, policy, difference)
    return replace(state, step=_step(state, policy), verdict=_verdict(state, policy))


def _advance(state: SuccessFold, policy: CanaryPolicy, difference: float) -> SuccessFold:
    return replace(
        state,
        pairs=state.pairs + 1,
        promote=state.promote.advance(promote_gain(difference, policy.margin)),
        rollback=state.rollback.advance(rollback_gain(difference)),
        ramps=tuple(
            ramp.advance(promote_gain(difference, margin))
            for ramp, margin in zip(state.ramps, policy.ramp_margins, strict=False)
        ),
    )


def _step(state: SuccessFold, policy: CanaryPolicy) -> int:
    step = state.step
    while step < len(state.ramps) and state.ramps[step].value >= 1 / policy.alpha_promote:
        step += 1
    return step


def _verdict(state: SuccessFold, policy: CanaryPolicy) -> Verdict:
    # Both can only be reached together when the two margins overlap; then caution wins.
    if state.rollback.value >= 1 / policy.alpha_rollback:
        return Verdict.ROLL_BACK
    if state.promote.value >= 1 / policy.alpha_promote:
        return Verdict.PROMOTE
    if state.canary.count >= policy.cap_outcomes:
        return Verdict.INCONCLUSIVE
    return Verdict.UNDECIDED
