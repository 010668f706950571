"""Use cases that end a canary, or take a live release back: promote, roll back, freeze."""

from __future__ import annotations

from collections.abc import Mapping

from services.releases.domain import ReleaseAction, ReleaseState, next_state
from services.releases.repository import decisions, evidence, releases
from services.releases.repository.releases import ReleaseRow
from shared.contracts.releases import (
    FoldCanary,
    LoadRelease,
    ReleasePromoted,
    ReleaseRolledBack,
)
from shared.db import UnitOfWork
from shared.errors import Conflict
from shared.spine import schedules

Evidence = Mapping[str, object]


def promote(uow: UnitOfWork, release: ReleaseRow, reason: str, proof: Evidence) -> None:
    """The canary is live from this commit on; the release before it stays resident."""
    assert release.control_release is not None  # a canary has a control
    control = releases.load_locked(uow, release.control_release)
    _move(uow, control, ReleaseAction.SUPERSEDE, f"Superseded by {release.release_id}.")
    _move(uow, release, ReleaseAction.PROMOTE, reason, proof)
    _emit_promoted(uow, release, control.model, reason, cycle_id=release.cycle_id)
    _end_canary(uow, release)


def roll_back_canary(
    uow: UnitOfWork, release: ReleaseRow, reason: str, proof: Evidence | None = None
) -> None:
    """The canary takes no traffic from this commit on; the live release stays live."""
    _move(uow, release, ReleaseAction.ROLL_BACK, reason, proof)
    _emit_rolled_back(uow, release, reason)
    _end_canary(uow, release)


def freeze(uow: UnitOfWork, release: ReleaseRow, reason: str, proof: Evidence) -> None:
    """No verdict: the live release stays live, and a person decides about the canary."""
    _move(uow, release, ReleaseAction.FREEZE, reason, proof)
    _end_canary(uow, release)


def roll_back(uow: UnitOfWork, release_id: str, reason: str) -> ReleaseRow:
    """
    Take a release back by hand, whatever it is doing. A live one gives way to the one before it.

    Raises:
        Missing: There is no such release.
        Conflict: It is over already, there is nothing to go back to, or a canary beside it runs.
    """
    releases.lock_workload(uow, releases.load(uow, release_id).workload_id)
    release = releases.load_locked(uow, release_id)
    if release.state is ReleaseState.LIVE:
        _restore_previous(uow, release, reason)
    elif release.state is ReleaseState.GATED:
        withdraw(uow, release_id, reason)
    else:
        roll_back_canary(uow, release, reason)
    return releases.load(uow, release_id)


def withdraw(uow: UnitOfWork, release_id: str, reason: str) -> None:
    """Take a gated release back before it gets any traffic; another state is left as it is."""
    releases.lock_workload(uow, releases.load(uow, release_id).workload_id)
    release = releases.load_locked(uow, release_id)
    if release.state is not ReleaseState.GATED:
        return
    _move(uow, release, ReleaseAction.FREEZE, reason)
    roll_back_canary(uow, releases.load(uow, release_id), reason)


def _restore_previous(uow: UnitOfWork, release: ReleaseRow, reason: str) -> None:
    if release.control_release is None:
        raise Conflict(
            "This is the workload's first release; there is nothing to go back to.",
            code="nothing_before",
        )
    canary = releases.find_in_state(uow, release.workload_id, ReleaseState.CANARY)
    if canary is not None:
        raise Conflict(
            f"Canary {canary.release_id} is being compared with this release; roll it back first.",
            code="release_in_progress",
        )
    previous = releases.load_locked(uow, release.control_release)
    _move(uow, release, ReleaseAction.ROLL_BACK, reason)
    restored = f"Live again: {release.release_id} was rolled back. {reason}"
    _move(uow, previous, ReleaseAction.RESTORE, restored)
    _emit_rolled_back(uow, release, reason)
    _emit_promoted(uow, previous, release.model, restored, cycle_id=None)


_VERDICTS = {
    ReleaseAction.PROMOTE: "promoted",
    ReleaseAction.ROLL_BACK: "rolled_back",
    ReleaseAction.FREEZE: "frozen",
    ReleaseAction.SUPERSEDE: "superseded",
    ReleaseAction.RESTORE: "restored",
}


def _move(
    uow: UnitOfWork,
    release: ReleaseRow,
    action: ReleaseAction,
    reason: str,
    proof: Evidence | None = None,
) -> None:
    """One step of the table, with its decision and its audit entry."""
    state = next_state(release.state, action)
    share = 1.0 if state is ReleaseState.LIVE else 0.0
    verdict = _VERDICTS[action]
    releases.change_state(uow, release, state, share=share, reason=reason)
    decisions.append(uow, release, verdict, share=share, reason=reason, evidence=proof)
    facts = {"model": release.model, "policy_version": release.policy_version}
    if proof:
        facts |= {"evidence": proof, "outcomes_cursor": release.outcomes_cursor}
    uow.audit(f"release.{verdict}", release.release_id, reason=reason, facts=facts)


def _end_canary(uow: UnitOfWork, release: ReleaseRow) -> None:
    schedules.stop(uow, FoldCanary(release_id=release.release_id))
    evidence.forget_units(uow, release.release_id)
    waiting = releases.find_in_state(uow, release.workload_id, ReleaseState.GATED)
    if waiting is not None:
        uow.emit(LoadRelease(release_id=waiting.release_id))


def _emit_promoted(
    uow: UnitOfWork, release: ReleaseRow, previous_model: str, reason: str, cycle_id: str | None
) -> None:
    uow.emit(
        ReleasePromoted(
            release_id=release.release_id,
            workload_id=release.workload_id,
            model=release.model,
            previous_model=previous_model,
            cycle_id=cycle_id,
            reason=reason,
        )
    )


def _emit_rolled_back(uow: UnitOfWork, release: ReleaseRow, reason: str) -> None:
    uow.emit(
        ReleaseRolledBack(
            release_id=release.release_id,
            workload_id=release.workload_id,
            model=release.model,
            cycle_id=release.cycle_id,
            reason=reason,
        )
    )
