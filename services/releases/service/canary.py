"""Use cases on a running canary: fold new evidence and act; fold it all again and compare.

The state after both feeds does not depend on how they were interleaved, only on the order within
each, so each has a cursor of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from services.releases.domain import (
    CanaryState,
    Decision,
    Ramp,
    ReleaseState,
    Verdict,
    begin,
    decide,
    fold,
    judge_label,
    judge_record,
    mark_first,
)
from services.releases.repository import decisions, evidence, releases
from services.releases.repository.releases import ReleaseRow
from services.releases.service import settle
from shared.contracts.releases import FoldCanary
from shared.cursor import Cursor
from shared.db import UnitOfWork
from shared.errors import Conflict
from shared.spine import schedules
from shared.statistics.codec import from_json, to_json


@dataclass(frozen=True, slots=True)
class Recomputation:
    """
    Attributes:
        is_equal: Whether the stored state has the same bits.
        decision: What follows from the evidence folded again.
    """

    is_equal: bool
    decision: Decision


def fold_canary(uow: UnitOfWork, release_id: str) -> None:
    """
    Fold what is new in both feeds, decide, and act on the decision, in one transaction.

    A release that is no canary any more ends the schedule that asked.
    """
    releases.lock_workload(uow, releases.load(uow, release_id).workload_id)
    release = releases.load_locked(uow, release_id)
    if release.state is not ReleaseState.CANARY:
        schedules.stop(uow, FoldCanary(release_id=release_id))
        return
    state, folded = _fold_new(uow, release)
    decision = decide(state, elapsed_seconds=_elapsed(release, uow.now))
    if folded == release and decision.verdict is Verdict.UNDECIDED:
        return
    assert folded.outcomes_cursor is not None  # as above
    assert folded.records_cursor is not None  # as above
    is_undecided = decision.verdict is Verdict.UNDECIDED
    releases.save_fold(
        uow,
        release_id,
        canary=to_json(state),
        share=decision.share if is_undecided else release.share,
        outcomes_cursor=folded.outcomes_cursor,
        records_cursor=folded.records_cursor,
    )
    _act(uow, folded, decision)


def judge(release: ReleaseRow, now: datetime) -> Decision | None:
    """The decision that the stored evidence of a release calls for; None without a canary."""
    if release.canary is None or release.started_at is None:
        return None
    return decide(from_json(CanaryState, release.canary), elapsed_seconds=_elapsed(release, now))


def recompute(uow: UnitOfWork, release_id: str) -> Recomputation:
    """
    Fold a canary's evidence again, from its beginning to its cursors.

    Cost: 0.2 ms a row.

    Raises:
        Missing: There is no such release.
        Conflict: It never was a canary.
    """
    release = releases.load(uow, release_id)
    if release.canary is None:
        raise Conflict(
            "This release was never a canary, so no evidence was folded.", code="no_canary"
        )
    stored = from_json(CanaryState, release.canary)
    state = _refold_labels(uow, release, begin(stored.policy))
    state = _refold_records(uow, release, state)
    return Recomputation(
        is_equal=state == stored,
        decision=decide(state, elapsed_seconds=_elapsed(release, uow.now)),
    )


def _elapsed(release: ReleaseRow, now: datetime) -> float:
    assert release.started_at is not None  # a canary has begun
    return ((release.settled_at or now) - release.started_at).total_seconds()


def _fold_new(uow: UnitOfWork, release: ReleaseRow) -> tuple[CanaryState, ReleaseRow]:
    """The state after the next batch of each feed, and the release with moved cursors."""
    assert release.canary is not None  # a canary has begun
    state = from_json(CanaryState, release.canary)
    labels, outcomes, _ = evidence.read_labels(
        uow, release, Cursor.parse(release.outcomes_cursor or "")
    )
    for assigned, success in labels:
        state = fold(state, judge_label(assigned, release.release_id, success))
    requests, records, _ = evidence.read_records(
        uow, release, Cursor.parse(release.records_cursor or "")
    )
    new = evidence.remember_units(uow, release.release_id, {row.unit for row in requests})
    ramps = [
        Ramp(row.created_at, row.share) for row in decisions.list_ramps(uow, release.release_id)
    ]
    for row, is_first in zip(requests, mark_first(requests, new), strict=True):
        seen = judge_record(row, release.release_id, ramps, is_first_of_unit=is_first)
        state = fold(state, seen)
    return state, replace(release, outcomes_cursor=str(outcomes), records_cursor=str(records))


def _refold_labels(uow: UnitOfWork, release: ReleaseRow, state: CanaryState) -> CanaryState:
    cursor, is_more = Cursor.parse(release.outcomes_start or ""), True
    until = Cursor.parse(release.outcomes_cursor or "")
    while is_more:
        labels, cursor, is_more = evidence.read_labels(uow, release, cursor, until)
        for assigned, success in labels:
            state = fold(state, judge_label(assigned, release.release_id, success))
    return state


def _refold_records(uow: UnitOfWork, release: ReleaseRow, state: CanaryState) -> CanaryState:
    """Stretch by stretch: each row is judged by the shares that were known when it was folded."""
    known: list[Ramp] = []
    seen: set[str] = set()
    shares = decisions.list_ramps(uow, release.release_id)
    ends = [share.records_cursor for share in shares[1:]] + [release.records_cursor]
    cursor = Cursor.parse(release.records_start or "")
    for share, end in zip(shares, ends, strict=True):
        known.append(Ramp(share.created_at, share.share))
        until, is_more = Cursor.parse(end or ""), True
        while is_more:
            requests, cursor, is_more = evidence.read_records(uow, release, cursor, until)
            new = {row.unit for row in requests} - seen
            seen |= new
            for row, is_first in zip(requests, mark_first(requests, new), strict=True):
                judged = judge_record(row, release.release_id, known, is_first_of_unit=is_first)
                state = fold(state, judged)
    return state


def _act(uow: UnitOfWork, release: ReleaseRow, decision: Decision) -> None:
    proof = to_json(decision.evidence)
    match decision.verdict:
        case Verdict.UNDECIDED:
            _ramp(uow, release, decision, proof)
        case Verdict.PROMOTE:
            settle.promote(uow, release, decision.reason, proof)
        case Verdict.ROLL_BACK:
            settle.roll_back_canary(uow, release, decision.reason, proof)
        case Verdict.INCONCLUSIVE | Verdict.SAMPLE_RATIO_MISMATCH:
            settle.freeze(uow, release, decision.reason, proof)


def _ramp(
    uow: UnitOfWork, release: ReleaseRow, decision: Decision, proof: dict[str, object]
) -> None:
    if decision.share == release.share:
        return
    reason = f"From {release.share:.0%} to {decision.share:.0%} of the units."
    decisions.append(uow, release, "ramped", share=decision.share, reason=reason, evidence=proof)
    uow.audit("release.ramped", release.release_id, reason=reason, facts={"evidence": proof})
