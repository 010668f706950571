"""Every statement on the tables of ingestion."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

from sqlalchemy import ColumnElement, delete, func
from sqlmodel import col, select

from services.ingestion.domain.findings import Finding
from services.ingestion.models import DatasetRow, FileRow, FindingRow, PartRow, UploadRow
from shared.db import UnitOfWork
from shared.errors import Missing


def add_file(uow: UnitOfWork, row: FileRow) -> None:
    """Store a new file; its database defaults are filled in."""
    uow.session.add(row)
    uow.session.flush()
    uow.session.refresh(row)


def find_twin(uow: UnitOfWork, row: FileRow, window_seconds: float) -> FileRow | None:
    """The newest file of the same upload within the window; the caller holds the turn."""
    lifetime = row.expires_at - row.created_at if row.expires_at else None
    return uow.session.exec(
        select(FileRow)
        .where(
            FileRow.project == row.project,
            FileRow.digest == row.digest,
            FileRow.purpose == row.purpose,
            FileRow.filename == row.filename,
            *_is_there(),
            (col(FileRow.expires_at) - col(FileRow.created_at)).is_not_distinct_from(lifetime),
            col(FileRow.created_at) > uow.now - timedelta(seconds=window_seconds),
        )
        .order_by(col(FileRow.seq).desc())
        .limit(1)
    ).one_or_none()


def find_file(uow: UnitOfWork, file_id: str) -> FileRow | None:
    """The file, unless it was deleted, has expired, or never was."""
    return uow.session.exec(
        select(FileRow).where(FileRow.id == file_id, *_is_there())
    ).one_or_none()


def load_file(uow: UnitOfWork, file_id: str) -> FileRow:
    """
    Raises:
        Missing: There is no such file, or not any more.
    """
    row = find_file(uow, file_id)
    if row is None:
        raise _no_file(file_id)
    return row


def list_files(
    uow: UnitOfWork, *, purpose: str | None, after: str | None, limit: int, newest_first: bool
) -> Sequence[FileRow]:
    """Up to `limit + 1` files behind the file *after*."""
    query = select(FileRow).where(*_is_there())
    if purpose:
        query = query.where(FileRow.purpose == purpose)
    seq = col(FileRow.seq)
    if after:
        position = _position(uow, after)
        query = query.where(seq < position if newest_first else seq > position)
    query = query.order_by(seq.desc() if newest_first else seq)
    return uow.session.exec(query.limit(limit + 1)).all()


def _position(uow: UnitOfWork, file_id: str) -> int:
    """Where a file stands in a list; it may have expired since its page was read."""
    row = uow.session.get(FileRow, file_id)
    if row is None or row.seq is None:
        raise _no_file(file_id)
    return row.seq


def _no_file(file_id: str) -> Missing:
    return Missing(f"There is no file '{file_id}'.", code="file_not_found", param="file_id")


def _is_there() -> tuple[ColumnElement[bool], ...]:
    """Neither deleted nor expired; as the view `files_v1` has it."""
    expires_at = col(FileRow.expires_at)
    return col(FileRow.deleted_at).is_(None), expires_at.is_(None) | (expires_at > func.now())


def add_upload(uow: UnitOfWork, row: UploadRow) -> None:
    """Store a new upload."""
    uow.session.add(row)
    uow.session.flush()


def load_upload(uow: UnitOfWork, upload_id: str) -> UploadRow:
    """
    Raises:
        Missing: There is no such upload.
    """
    return _found(uow.session.get(UploadRow, upload_id), upload_id)


def lock_upload(uow: UnitOfWork, upload_id: str) -> UploadRow:
    """As `load_upload`; whoever else wants to end it waits."""
    return _found(
        uow.session.get(UploadRow, upload_id, with_for_update=True, populate_existing=True),
        upload_id,
    )


def _found(row: UploadRow | None, upload_id: str) -> UploadRow:
    if row is None:
        raise Missing(
            f"There is no upload '{upload_id}'.", code="upload_not_found", param="upload_id"
        )
    return row


def add_part(uow: UnitOfWork, row: PartRow) -> None:
    """Store a part, for ever."""
    uow.session.add(row)
    uow.session.flush()


def parts_of(uow: UnitOfWork, upload_id: str) -> Sequence[PartRow]:
    """All parts of an upload that arrived."""
    return uow.session.exec(select(PartRow).where(PartRow.upload_id == upload_id)).all()


def add_dataset(uow: UnitOfWork, row: DatasetRow) -> None:
    """Store a dataset version, for ever."""
    uow.session.add(row)
    uow.session.flush()


def has_dataset(uow: UnitOfWork, dataset_id: str) -> bool:
    return uow.session.get(DatasetRow, dataset_id) is not None


def load_dataset(uow: UnitOfWork, dataset_id: str) -> DatasetRow:
    """
    Raises:
        Missing: There is no such dataset.
    """
    row = uow.session.get(DatasetRow, dataset_id)
    if row is None:
        raise Missing(
            f"There is no dataset '{dataset_id}'.", code="dataset_not_found", param="dataset_id"
        )
    return row


def list_datasets(
    uow: UnitOfWork, *, workload_id: str | None, after: str | None, limit: int
) -> Sequence[DatasetRow]:
    """Up to `limit + 1` datasets, newest first."""
    query = select(DatasetRow)
    if workload_id:
        query = query.where(DatasetRow.workload_id == workload_id)
    if after:
        query = query.where(col(DatasetRow.seq) < load_dataset(uow, after).seq)
    return uow.session.exec(query.order_by(col(DatasetRow.seq).desc()).limit(limit + 1)).all()


def replace_findings(uow: UnitOfWork, subject: str, findings: Iterable[Finding]) -> None:
    """The findings on *subject* are these; a repeated check leaves no doubles."""
    uow.session.execute(delete(FindingRow).where(col(FindingRow.subject) == subject))
    uow.session.add_all(
        FindingRow(
            project=uow.project,
            subject=subject,
            rule=finding.rule,
            severity=str(finding.severity),
            line=finding.line,
            pointer=finding.pointer,
            message=finding.message,
            fix=finding.fix,
        )
        for finding in findings
    )


def list_findings(uow: UnitOfWork, subject: str) -> Sequence[FindingRow]:
    """All findings on a file or dataset, in order of discovery."""
    return uow.session.exec(
        select(FindingRow).where(FindingRow.subject == subject).order_by(col(FindingRow.seq))
    ).all()
