"""HTTP models of files and datasets. Files have OpenAI's shape."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Len
from pydantic import BaseModel, ConfigDict

from services.ingestion.domain.uploads import UploadState

Purpose = Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]
PURPOSES: tuple[str, ...] = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")


class FileObject(BaseModel):
    """OpenAI's file object. `status` is `uploaded` until the checks are done."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: Literal["uploaded", "processed", "error"]
    status_details: str | None = None
    expires_at: int | None = None


class FileDeleted(BaseModel):
    id: str
    object: Literal["file"] = "file"
    deleted: bool = True


class ExpiresAfter(BaseModel):
    """When a file is given up."""

    model_config = ConfigDict(extra="forbid")

    anchor: Literal["created_at"]
    seconds: int


class CreateUploadBody(BaseModel):
    """What OpenAI's `uploads.create` sends."""

    model_config = ConfigDict(extra="forbid")

    filename: Annotated[str, Len(1, 1024)]
    purpose: str
    bytes: Annotated[int, Ge(1)]
    mime_type: Annotated[str, Len(1, 255)]
    expires_after: ExpiresAfter | None = None


class CompleteUploadBody(BaseModel):
    """What OpenAI's `uploads.complete` sends."""

    model_config = ConfigDict(extra="forbid")

    part_ids: Annotated[list[str], Len(1, 10_000)]
    md5: str | None = None


class PartObject(BaseModel):
    """A part of an upload in OpenAI's shape."""

    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str


class UploadObject(BaseModel):
    """An upload in OpenAI's shape; `file` is there once it is completed."""

    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: UploadState
    file: FileObject | None


class FindingObject(BaseModel):
    """One finding: where, what, and the way out."""

    rule: str
    severity: Literal["error", "warning", "info"]
    line: int | None
    pointer: str
    message: str
    fix: str


class FileReport(BaseModel):
    """What the checks found in a file. `gate` is what a job that uses it will say."""

    file_id: str
    object: Literal["file.report"] = "file.report"
    status: Literal["uploaded", "processed", "error"]
    gate: Literal["pending", "pass", "pass_with_warnings", "fail"]
    rows: int | None
    counts: dict[str, int]
    findings: list[FindingObject]


class TokenReportObject(BaseModel):
    """Tokens of the training rows, by the target model's tokenizer."""

    total: int
    trained: int
    shortest: int
    median: int
    longest: int
    truncated_rows: int


class DatasetObject(BaseModel):
    """A dataset version: sealed for ever, or refused with its reason."""

    id: str
    object: Literal["dataset"] = "dataset"
    workload_id: str | None
    state: Literal["sealed", "refused"]
    base: str
    requester: str
    training_digest: str | None
    validation_digest: str | None
    manifest_digest: str | None
    training_rows: int
    validation_rows: int
    tokens: TokenReportObject | None
    error_code: str | None
    error_message: str | None
    created_at: int
    findings: list[FindingObject] | None = None
