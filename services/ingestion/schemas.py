"""HTTP models of files and datasets. Files have OpenAI's shape."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

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
