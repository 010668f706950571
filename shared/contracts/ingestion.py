"""Commands and facts of files and datasets. Emitted by ingestion, but for what others ask of it."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from shared.contracts.envelope import Message


class FileUploaded(Message):
    """The bytes of a file are stored; it has to be checked."""

    type: ClassVar[str] = "file.uploaded.v1"
    file_id: str
    purpose: str
    digest: str
    bytes: int

    @property
    def subject(self) -> str:
        return self.file_id


class ResultFileStored(Message):
    """The bytes of a job's result file are stored; ingestion lists it among the project's files.

    Emitted by finetuning, which chose the id because the job already shows it.
    """

    type: ClassVar[str] = "file.result_stored.v1"
    file_id: str
    purpose: Literal["fine-tune-results"] = "fine-tune-results"
    filename: str
    digest: str
    bytes: int

    @property
    def subject(self) -> str:
        return self.file_id


class OutputFileStored(Message):
    """The bytes of a file that a batch made are stored; ingestion lists it among the files.

    Emitted by inference, which chose the id and shows it once the file can be fetched. It is the
    same fact as `file.result_stored.v1`, of which older readers know one purpose only.
    """

    type: ClassVar[str] = "file.result_stored.v2"
    file_id: str
    purpose: Literal["batch_output"] = "batch_output"
    filename: str
    digest: str
    bytes: int
    # Seconds from the making of the file's row; None keeps it.
    expires_after_seconds: int | None = None

    @property
    def subject(self) -> str:
        return self.file_id


class Source(BaseModel):
    """Rows for a dataset: a blob of JSON lines, and how many of its rows to take."""

    model_config = ConfigDict(frozen=True)

    digest: str
    file_id: str | None = None
    # None takes all rows; a number takes that many, chosen by a seeded shuffle.
    max_rows: int | None = None


class Requester(BaseModel):
    """Who asked, so that the answer finds its way: a job or a cycle."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["job", "cycle"]
    id: str


class SealDataset(Message):
    """Command: check *training* and *validation* against *base*, and seal a dataset version.

    With `counts_tokens` false the base is a provider's: its tokenizer is not here, so the form of
    the rows is checked and their tokens are unknown, which the answer tells as 0.

    Ends in DatasetSealed or DatasetRefused with the same requester.
    """

    type: ClassVar[str] = "dataset.seal.v1"
    dataset_id: str
    workload_id: str | None = None
    base: str
    training: list[Source]
    validation: Source | None = None
    # Share of training rows held out when there is no validation source; 0 holds out none.
    validation_share: float = 0.0
    # Preferences are rows with two answers each.
    format: Literal["chat", "preference"] = "chat"
    counts_tokens: bool = True
    requester: Requester

    @property
    def subject(self) -> str:
        return self.dataset_id


class DatasetSealed(Message):
    """A dataset version is immutable from now on."""

    type: ClassVar[str] = "dataset.sealed.v1"
    public: ClassVar[bool] = True
    dataset_id: str
    workload_id: str | None = None
    requester: Requester
    training_digest: str
    validation_digest: str | None = None
    training_rows: int
    validation_rows: int
    training_tokens: int
    trained_tokens: int
    truncated_rows: int = 0

    @property
    def subject(self) -> str:
        return self.dataset_id


class DatasetRefused(Message):
    """The content of a file does not make a dataset; code, line and message say why."""

    type: ClassVar[str] = "dataset.refused.v1"
    public: ClassVar[bool] = True
    dataset_id: str
    requester: Requester
    code: str
    message: str
    param: str
    line: int | None = None

    @property
    def subject(self) -> str:
        return self.dataset_id
