"""All SQL of batches: their own tables, and the files of ingestion they begin and end with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import CursorResult, delete, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col, select

from services.inference.batches.domain.results import Result, Tokens
from services.inference.batches.domain.states import State, sources_of
from services.inference.batches.models import Batch, BatchResult
from shared.db import UnitOfWork
from shared.errors import Invalid, Missing


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file as ingestion shows it."""

    purpose: str
    digest: str
    bytes: int


def find_file(uow: UnitOfWork, file_id: str) -> StoredFile | None:
    row = uow.session.execute(
        text("SELECT purpose, digest, bytes FROM ingestion.files_v1 WHERE file_id = :id"),
        {"id": file_id},
    ).one_or_none()
    return None if row is None else StoredFile(*row)


def find_twin(uow: UnitOfWork, request_digest: str, window_seconds: float) -> Batch | None:
    """The newest batch the same request made within the window; the caller holds the turn."""
    return uow.session.exec(
        select(Batch)
        .where(
            Batch.request_digest == request_digest,
            text("created_at > now() - make_interval(secs => :window)").bindparams(
                window=window_seconds
            ),
        )
        .order_by(col(Batch.id).desc())
        .limit(1)
    ).one_or_none()


def add_batch(uow: UnitOfWork, batch: Batch) -> None:
    uow.session.add(batch)
    uow.session.flush()


def load_batch(uow: UnitOfWork, batch_id: str) -> Batch:
    """
    Raises:
        Missing: The project has no such batch.
    """
    batch = uow.session.exec(
        select(Batch).where(Batch.id == batch_id).execution_options(populate_existing=True)
    ).one_or_none()
    if batch is None:
        raise Missing(f"There is no batch '{batch_id}'.", code="batch_not_found", param="batch_id")
    return batch


def list_batches(uow: UnitOfWork, *, after: str | None, limit: int) -> Sequence[Batch]:
    """
    Up to `limit + 1` batches, newest first, because ids sort by time.

    Raises:
        Invalid: There is no batch *after*.
    """
    query = select(Batch).order_by(col(Batch.id).desc()).limit(limit + 1)
    if after is not None:
        if uow.session.get(Batch, after) is None:
            raise Invalid(
                f"after: there is no batch '{after}'.", code="unknown_cursor", param="after"
            )
        query = query.where(Batch.id < after)
    return uow.session.exec(query).all()


def move_batch(uow: UnitOfWork, batch_id: str, target: State, **values: Any) -> bool:  # noqa: ANN401
    """
    Move a batch to *target* and set the columns in *values*; to move on is progress.

    Returns:
        False, and nothing has changed, when the batch's state does not lead to *target*.
    """
    changed: CursorResult[Any] = uow.session.execute(  # type: ignore[assignment]  # of an UPDATE
        update(Batch)
        .where(col(Batch.id) == batch_id, col(Batch.state).in_(sources_of(target)))
        .values(state=target, attempts=0, **values)
        .execution_options(synchronize_session=False)
    )
    return changed.rowcount == 1


def update_batch(uow: UnitOfWork, batch_id: str, **values: Any) -> None:  # noqa: ANN401 - columns
    """Set columns; the caller holds the batch's lease."""
    uow.session.execute(
        update(Batch)
        .where(col(Batch.id) == batch_id)
        .values(**values)
        .execution_options(synchronize_session=False)
    )


def add_result(uow: UnitOfWork, batch_id: str, line: int, result: Result, tokens: Tokens) -> bool:
    """Keep the answer to a line and count it; False when the line has one already."""
    added = uow.session.execute(
        insert(BatchResult)
        .values(
            batch_id=batch_id,
            line=line,
            project=uow.project,
            status=result.status,
            request_id=result.request_id,
            body=result.body,
        )
        .on_conflict_do_nothing()
        .returning(col(BatchResult.line))
    )
    if added.scalar_one_or_none() is None:
        return False
    counter = "failed" if result.is_error else "completed"
    counted = {counter: 1, "input_tokens": tokens.read, "output_tokens": tokens.written}
    added_up = {name: col(getattr(Batch, name)) + by for name, by in counted.items()}
    update_batch(uow, batch_id, attempts=0, **added_up)
    return True


def answered_lines(uow: UnitOfWork, batch_id: str) -> frozenset[int]:
    """Lines that have their answer."""
    lines = select(BatchResult.line).where(BatchResult.batch_id == batch_id)
    return frozenset(uow.session.exec(lines))


def list_results(
    uow: UnitOfWork, batch_id: str, *, after: int, limit: int
) -> list[tuple[int, Result]]:
    """Up to *limit* answers to lines behind the line *after*, in order."""
    rows = uow.session.exec(
        select(BatchResult)
        .where(BatchResult.batch_id == batch_id, BatchResult.line > after)
        .order_by(col(BatchResult.line))
        .limit(limit)
    )
    return [(row.line, Result(row.status, row.request_id, row.body)) for row in rows]


def forget_results(uow: UnitOfWork, batch_id: str, *, limit: int) -> bool:
    """Delete up to *limit* answers, which the files hold by now; whether there were any."""
    lines = select(BatchResult.line).where(BatchResult.batch_id == batch_id).limit(limit)
    gone: CursorResult[Any] = uow.session.execute(  # type: ignore[assignment]  # of a DELETE
        delete(BatchResult).where(
            col(BatchResult.batch_id) == batch_id, col(BatchResult.line).in_(lines)
        )
    )
    return gone.rowcount > 0


def count_files(uow: UnitOfWork, file_ids: Sequence[str]) -> int:
    """How many of *file_ids* can be fetched."""
    found = uow.session.execute(
        text("SELECT count(*) FROM ingestion.files_v1 WHERE file_id = ANY(:ids)"),
        {"ids": list(file_ids)},
    )
    return int(found.scalar_one())
