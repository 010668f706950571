"""Every statement on the tables of evaluation, and its reads of published views."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import text
from sqlmodel import col, select

from services.evaluation.domain.agreement import Comparison
from services.evaluation.models import CaseRow, EvaluationRow, Side
from shared.db import UnitOfWork
from shared.errors import Missing
from shared.ids import Digest


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file as ingestion publishes it."""

    purpose: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model to evaluate: a base, or a tuned model as releases publishes it, with its adapter."""

    name: str
    base: str
    gguf_digest: Digest | None = None
    peft_digest: Digest | None = None


@dataclass(frozen=True, slots=True)
class AnswerPair:
    """
    What a row's two sides answered.

    Attributes:
        answer: The candidate's; None where it failed.
        recorded: The recorded one.
        other: A different one that was recorded for another row, if there is any.
    """

    line: int
    answer: str | None
    recorded: str
    other: str | None


def add_evaluation(uow: UnitOfWork, row: EvaluationRow, cases: Sequence[CaseRow] = ()) -> None:
    """Store a new evaluation and its cases; its database defaults are filled in."""
    uow.session.add(row)
    uow.session.flush()
    uow.session.add_all(cases)
    uow.session.flush()
    uow.session.refresh(row)


def load_evaluation(uow: UnitOfWork, evaluation_id: str) -> EvaluationRow:
    """
    Raises:
        Missing: There is no such evaluation.
    """
    row = uow.session.get(EvaluationRow, evaluation_id)
    if row is None:
        raise Missing(
            f"There is no evaluation '{evaluation_id}'.",
            code="evaluation_not_found",
            param="evaluation_id",
        )
    return row


def find_due(uow: UnitOfWork, evaluation_id: str, position: int) -> EvaluationRow | None:
    """The evaluation if its next step is *position*; None for an out-of-date step."""
    return uow.session.exec(
        select(EvaluationRow).where(
            EvaluationRow.id == evaluation_id,
            EvaluationRow.position == position,
            col(EvaluationRow.state).in_(("queued", "running")),
        )
    ).one_or_none()


def claim_step(uow: UnitOfWork, evaluation_id: str, position: int) -> EvaluationRow | None:
    """Take the step *position*, so that nobody records it twice; None when it was taken."""
    taken = uow.session.execute(
        text("""
            UPDATE evaluation.evaluations SET state = 'running', position = position + 1
            WHERE id = :id AND position = :position AND state IN ('queued', 'running')
            RETURNING id
        """),
        {"id": evaluation_id, "position": position},
    ).one_or_none()
    return None if taken is None else load_evaluation(uow, evaluation_id)


def lock_open(uow: UnitOfWork, evaluation_id: str) -> EvaluationRow | None:
    """The evaluation, held for this transaction; None when it has ended."""
    return uow.session.exec(
        select(EvaluationRow)
        .where(EvaluationRow.id == evaluation_id, col(EvaluationRow.verdict).is_(None))
        .with_for_update()
    ).one_or_none()


def list_evaluations(
    uow: UnitOfWork, *, workload_id: str | None, after: str | None, limit: int
) -> Sequence[EvaluationRow]:
    """Up to `limit + 1` evaluations, newest first."""
    query = select(EvaluationRow)
    if workload_id:
        query = query.where(EvaluationRow.workload_id == workload_id)
    if after:
        query = query.where(col(EvaluationRow.seq) < load_evaluation(uow, after).seq)
    return uow.session.exec(query.order_by(col(EvaluationRow.seq).desc()).limit(limit + 1)).all()


def list_unanswered(
    uow: UnitOfWork, evaluation_id: str, sides: Iterable[Side], limit: int
) -> Sequence[CaseRow]:
    """The next cases of *sides* without an answer, both sides of a row together."""
    query = select(CaseRow).where(
        CaseRow.evaluation_id == evaluation_id,
        col(CaseRow.side).in_(sides),
        col(CaseRow.latency_ms).is_(None),
    )
    return uow.session.exec(query.order_by(col(CaseRow.line), CaseRow.side).limit(limit)).all()


def list_unscored(
    uow: UnitOfWork, evaluation_id: str, sides: Iterable[Side], limit: int
) -> Sequence[CaseRow]:
    """The next cases of which the expected answer's likelihood is unknown, side by side."""
    query = select(CaseRow).where(
        CaseRow.evaluation_id == evaluation_id,
        col(CaseRow.side).in_(sides),
        col(CaseRow.nll).is_(None),
    )
    return uow.session.exec(query.order_by(CaseRow.side, col(CaseRow.line)).limit(limit)).all()


def list_uncompared(uow: UnitOfWork, evaluation_id: str, limit: int) -> list[AnswerPair]:
    """The next rows with a recorded answer that the candidate's is not yet compared with."""
    found = uow.session.execute(
        text("""
            SELECT ours.line, ours.answer, theirs.answer AS recorded, COALESCE(
                (SELECT answer FROM evaluation.cases
                 WHERE evaluation_id = :id AND side = 'baseline' AND answer <> theirs.answer
                   AND line > theirs.line ORDER BY line LIMIT 1),
                (SELECT answer FROM evaluation.cases
                 WHERE evaluation_id = :id AND side = 'baseline' AND answer <> theirs.answer
                 ORDER BY line LIMIT 1)
            ) AS other
            FROM evaluation.cases ours
            JOIN evaluation.cases theirs USING (evaluation_id, line)
            WHERE evaluation_id = :id AND ours.side = 'candidate' AND theirs.side = 'baseline'
              AND ours.comparison IS NULL AND theirs.answer IS NOT NULL
            ORDER BY line LIMIT :limit
        """),
        {"id": evaluation_id, "limit": limit},
    )
    return [AnswerPair(*row) for row in found]


def list_side(uow: UnitOfWork, evaluation_id: str, side: str) -> Sequence[CaseRow]:
    """All cases of one side, by line."""
    query = select(CaseRow).where(CaseRow.evaluation_id == evaluation_id, CaseRow.side == side)
    return uow.session.exec(query.order_by(col(CaseRow.line))).all()


def list_cases(
    uow: UnitOfWork, evaluation_id: str, *, after_line: int, limit: int
) -> Sequence[CaseRow]:
    """The cases of up to `limit + 1` lines behind *after_line*, both sides of each."""
    lines = (
        select(CaseRow.line)
        .where(CaseRow.evaluation_id == evaluation_id, col(CaseRow.line) > after_line)
        .distinct()
        .order_by(col(CaseRow.line))
        .limit(limit + 1)
    )
    query = select(CaseRow).where(
        CaseRow.evaluation_id == evaluation_id, col(CaseRow.line).in_(lines)
    )
    return uow.session.exec(query.order_by(col(CaseRow.line))).all()


def record_case(uow: UnitOfWork, case: CaseRow, found: dict[str, Any]) -> None:
    """Write down what was found out about one case."""
    row = uow.session.get_one(CaseRow, (case.evaluation_id, case.line, case.side))
    for name, value in found.items():
        setattr(row, name, value)


def record_comparison(
    uow: UnitOfWork, evaluation_id: str, line: int, comparison: Comparison
) -> None:
    """Write down how near the candidate's answer is to the recorded one."""
    row = uow.session.get_one(CaseRow, (evaluation_id, line, "candidate"))
    row.comparison = asdict(comparison)


def find_file(uow: UnitOfWork, file_id: str) -> StoredFile | None:
    """The file of the project with this id."""
    row = uow.session.execute(
        text("SELECT purpose, digest FROM ingestion.files_v1 WHERE file_id = :id"), {"id": file_id}
    ).one_or_none()
    return None if row is None else StoredFile(row.purpose, Digest(row.digest))


def find_tuned(uow: UnitOfWork, name: str) -> KnownModel | None:
    """The tuned model of the project with this name; None also when it was deleted."""
    row = uow.session.execute(
        text("""
            SELECT base, gguf_digest, peft_digest FROM releases.models_v1
            WHERE model_id = :name AND deleted_at IS NULL
        """),
        {"name": name},
    ).one_or_none()
    if row is None:
        return None
    return KnownModel(name, row.base, Digest(row.gguf_digest), Digest(row.peft_digest))
