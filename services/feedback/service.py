"""Use cases of feedback: record what was said, resolve outcomes, curate corrections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.feedback import repository
from services.feedback.domain import Label, Outcome, Thumb, outcome_of, training_row
from services.feedback.models import EntryRow
from shared.blobs import BlobStore
from shared.contracts.feedback import (
    CorrectionRecorded,
    CorrectionsCurated,
    CurateCorrections,
    ResolveOutcome,
)
from shared.db import UnitOfWork
from shared.errors import Missing
from shared.ids import new_id
from shared.policy import load_workload
from shared.receipts import read_receipt

# A cycle learns from at most this many corrections; the rest waits for the next.
_MAX_CURATED = 5_000
# Records are shipped every quarter of a second; a first look after one second finds most.
_RESOLVE_AFTER_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of a feedback.

    Attributes:
        feedback_id: Id of the stored entry.
        outcome: `success`, `failure`, `pending` (the answer's record has not arrived), `counted`
            (an earlier label of this inference counts), or `none` (no outcome was said).
    """

    feedback_id: str
    outcome: str


def record_feedback(
    uow: UnitOfWork, *, inference_id: str, label: Label, receipt_keys: Sequence[bytes]
) -> Recorded:
    """
    Store a label, and its outcome as far as it is known.

    Raises:
        Invalid: The id is no inference of this project.
    """
    receipt = read_receipt(inference_id, uow.project, receipt_keys)
    entry = EntryRow(
        id=new_id("fb"),
        project=uow.project,
        inference_id=inference_id,
        workload_id=receipt.workload_id,
        release_id=receipt.release_id,
        arm=receipt.arm,
        success=label.success,
        rating=label.rating,
        thumb=label.thumb,
        correction=label.correction,
        comment=label.comment,
        source=uow.context.actor,
    )
    repository.add_entry(uow, entry)
    recorded = Recorded(entry.id, _settle(uow, entry))
    # Last: from here to its end the transaction holds up the workload's other corrections.
    _announce_correction(uow, entry)
    return recorded


def resolve_outcome(uow: UnitOfWork, command: ResolveOutcome) -> None:
    """
    Compare a correction with the answer, now that its record should have arrived.

    Raises:
        Missing: It has not; the delivery is due again later.
    """
    entry = repository.load_entry(uow, command.feedback_id)
    content = repository.find_content(uow, entry.inference_id)
    if content is None:
        raise Missing(
            f"The answer of {entry.inference_id} has not arrived, or was not captured.",
            code="content_not_found",
        )
    outcome = outcome_of(_label(entry), content.answer)
    if outcome is not None:
        repository.record_outcome(uow, entry.inference_id, entry, outcome)


def curate_corrections(uow: UnitOfWork, blobs: BlobStore, command: CurateCorrections) -> None:
    """Write the waiting corrections as training rows and mark them as used by the cycle.

    Corrections whose request was not captured cannot be learned from and stay waiting.
    """
    rows: list[str] = []
    used: list[str] = []
    for entry in repository.list_waiting(uow, command.workload_id, _MAX_CURATED):
        content = repository.find_content(uow, entry.inference_id)
        if content is not None and entry.correction is not None:
            rows.append(training_row(content.messages, entry.correction))
            used.append(entry.inference_id)
    digest = blobs.put(uow.project, "".join(rows).encode())
    repository.mark_curated(uow, used, command.cycle_id)
    uow.emit(
        CorrectionsCurated(
            cycle_id=command.cycle_id,
            workload_id=command.workload_id,
            digest=digest,
            rows=len(rows),
        )
    )
    uow.audit("corrections.curated", command.cycle_id, facts={"rows": len(rows), "digest": digest})


def _settle(uow: UnitOfWork, entry: EntryRow) -> str:
    label = _label(entry)
    content = None
    if label.success is None and label.correction is not None:
        content = repository.find_content(uow, entry.inference_id)
    outcome = outcome_of(label, content.answer if content else None)
    if outcome is not None:
        return _record(uow, entry, outcome)
    if label.correction is None:
        return "none"
    if not _captures(uow, entry):
        return "none"
    uow.emit(ResolveOutcome(feedback_id=entry.id), due_in_seconds=_RESOLVE_AFTER_SECONDS)
    return "pending"


def _record(uow: UnitOfWork, entry: EntryRow, outcome: Outcome) -> str:
    if not repository.record_outcome(uow, entry.inference_id, entry, outcome):
        return "counted"
    return "success" if outcome.success else "failure"


def _announce_correction(uow: UnitOfWork, entry: EntryRow) -> None:
    if entry.correction is None or entry.workload_id is None:
        return
    # One by one, so that each count sees those before.
    uow.take_turn("feedback.announce", entry.workload_id)
    waiting = repository.count_waiting(uow, entry.workload_id)
    uow.emit(
        CorrectionRecorded(workload_id=entry.workload_id, feedback_id=entry.id, waiting=waiting)
    )


def _captures(uow: UnitOfWork, entry: EntryRow) -> bool:
    if entry.workload_id is None:
        return False
    return load_workload(uow.session, entry.workload_id).policy.capture_content


def _label(entry: EntryRow) -> Label:
    thumb: Thumb | None = "up" if entry.thumb == "up" else "down" if entry.thumb else None
    return Label(
        success=entry.success,
        rating=entry.rating,
        thumb=thumb,
        correction=entry.correction,
        comment=entry.comment,
    )
