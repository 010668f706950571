"""The use case that seals a dataset: gather rows, check, split, count, write shards."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from services.ingestion import repository
from services.ingestion.domain import datasets
from services.ingestion.domain.datasets import TokenCounts, TokenReport
from services.ingestion.domain.files import Row, check_training_file
from services.ingestion.domain.findings import Finding, first_error
from services.ingestion.models import DatasetRow
from shared.blobs import BlobStore
from shared.contracts.ingestion import DatasetRefused, DatasetSealed, SealDataset, Source
from shared.db import UnitOfWork
from shared.errors import Invalid
from shared.ids import Digest, Project, uuid7
from shared.rendering.bases import BaseModel, find_base
from shared.rendering.chat import render
from shared.rendering.preferences import Conversation, conversations_of, is_preference
from shared.rendering.tools import functions_of


@dataclass(frozen=True)
class Refusal:
    """Why no dataset came of it, in the words of OpenAI's job errors."""

    code: str
    message: str
    param: str
    line: int | None = None


@dataclass(frozen=True)
class SourcedRow:
    """A row and the blob it came from."""

    source: str
    row: Row


@dataclass(frozen=True)
class Assembly:
    """A dataset ready to be written, and what was noticed on the way."""

    training: list[SourcedRow]
    validation: list[SourcedRow]
    # None where the tokenizer is a provider's.
    tokens: TokenReport | None
    findings: list[Finding]


def assemble(blobs: BlobStore, project: Project, command: SealDataset) -> Assembly | Refusal:
    """Read and check all sources of *command*; no database is touched."""
    base = find_base(command.base) if command.counts_tokens else None
    if base is None and command.counts_tokens:
        return Refusal("model_not_found", f"There is no base model '{command.base}'.", "model")
    training: list[SourcedRow] = []
    for source in command.training:
        rows = _read(blobs, project, command, source, "training_file")
        if isinstance(rows, Refusal):
            return rows
        training.extend(rows)
    validation: list[SourcedRow] = []
    if command.validation is not None:
        held_out = _read(blobs, project, command, command.validation, "validation_file")
        if isinstance(held_out, Refusal):
            return held_out
        validation = held_out
    elif command.validation_share:
        training, validation = _split(training, command)
    if base is None:
        return Assembly(training, validation, None, _leakage(training, validation))
    return _counted(base, training, validation)


def seal(
    uow: UnitOfWork, blobs: BlobStore, command: SealDataset, outcome: Assembly | Refusal
) -> None:
    """Write the dataset version, sealed or refused, and tell who asked. Happens once per id."""
    if repository.has_dataset(uow, command.dataset_id):
        return
    row = DatasetRow(
        id=command.dataset_id,
        project=uow.project,
        workload_id=command.workload_id,
        state="refused" if isinstance(outcome, Refusal) else "sealed",
        base=command.base,
        requester=f"{command.requester.kind}:{command.requester.id}",
        sources=[source.model_dump(mode="json") for source in command.training],
    )
    if isinstance(outcome, Refusal):
        _refuse(uow, row, command, outcome)
    else:
        _seal(uow, blobs, row, command, outcome)


def _refuse(uow: UnitOfWork, row: DatasetRow, command: SealDataset, refusal: Refusal) -> None:
    row.error_code, row.error_message = refusal.code, refusal.message
    repository.add_dataset(uow, row)
    uow.emit(
        DatasetRefused(
            dataset_id=row.id,
            requester=command.requester,
            code=refusal.code,
            message=refusal.message[:1000],
            param=refusal.param,
            line=refusal.line,
        )
    )
    uow.audit("dataset.refused", row.id, reason=refusal.message[:300])


def _seal(
    uow: UnitOfWork,
    blobs: BlobStore,
    row: DatasetRow,
    command: SealDataset,
    assembly: Assembly,
) -> None:
    training, entries = _shard(assembly.training, "training")
    validation, more = _shard(assembly.validation, "validation")
    row.training_digest = blobs.put(uow.project, training)
    row.validation_digest = blobs.put(uow.project, validation) if assembly.validation else None
    row.manifest_digest = blobs.put(uow.project, "".join(entries + more).encode())
    row.training_rows = len(assembly.training)
    row.validation_rows = len(assembly.validation)
    if assembly.tokens is not None:
        row.training_tokens = assembly.tokens.total
        row.trained_tokens = assembly.tokens.trained
        row.token_report = asdict(assembly.tokens)
    repository.add_dataset(uow, row)
    repository.replace_findings(uow, row.id, assembly.findings)
    uow.emit(
        DatasetSealed(
            dataset_id=row.id,
            workload_id=command.workload_id,
            requester=command.requester,
            training_digest=row.training_digest,
            validation_digest=row.validation_digest,
            training_rows=row.training_rows,
            validation_rows=row.validation_rows,
            training_tokens=row.training_tokens,
            trained_tokens=row.trained_tokens,
            truncated_rows=assembly.tokens.truncated_rows if assembly.tokens else 0,
        )
    )
    uow.audit(
        "dataset.sealed",
        row.id,
        facts={"training_digest": row.training_digest, "rows": row.training_rows},
    )


def _read(
    blobs: BlobStore, project: Project, command: SealDataset, source: Source, param: str
) -> list[SourcedRow] | Refusal:
    # What the platform curated itself may be shorter than what a person must bring.
    min_rows = 1 if source.file_id is None or param == "validation_file" else 10
    check = check_training_file(
        blobs.stream(project, Digest(source.digest)), min_rows=min_rows, wanted=command.format
    )
    worst = first_error(check.findings)
    if worst is not None:
        code = "invalid_n_examples" if worst.rule == "too_few_rows" else f"invalid_{param}"
        return Refusal(code, worst.sentence(), param, worst.line)
    rows = datasets.sample_rows(check.rows, source.max_rows, command.dataset_id)
    return [SourcedRow(source.digest, row) for row in rows]


def _split(
    rows: list[SourcedRow], command: SealDataset
) -> tuple[list[SourcedRow], list[SourcedRow]]:
    _, held_out = datasets.split_rows(
        [sourced.row for sourced in rows], command.validation_share, command.dataset_id
    )
    held = {id(row) for row in held_out}
    return (
        [sourced for sourced in rows if id(sourced.row) not in held],
        [sourced for sourced in rows if id(sourced.row) in held],
    )


def _counted(
    base: BaseModel, training: list[SourcedRow], validation: list[SourcedRow]
) -> Assembly | Refusal:
    rows = [sourced.row for sourced in training]
    held_out = [sourced.row for sourced in validation]

    counts = _count_all(base, rows, "training_file")
    if isinstance(counts, Refusal):
        return counts
    # Training reads these as well; how many tokens they have is nobody's question.
    unfit = _count_all(base, held_out, "validation_file")
    if isinstance(unfit, Refusal):
        return unfit
    tokens, findings = datasets.count_rows(counts, base.training_tokens)
    worst = first_error(findings)
    if worst is not None:
        return Refusal("invalid_training_file", worst.sentence(), "training_file", worst.line)
    return Assembly(training, validation, tokens, findings + _leakage(training, validation))


def _leakage(training: list[SourcedRow], validation: list[SourcedRow]) -> list[Finding]:
    rows, held_out = ([sourced.row for sourced in part] for part in (training, validation))
    return datasets.find_leakage(rows, held_out)


def _count_all(
    base: BaseModel, rows: list[Row], param: str
) -> list[tuple[Row, TokenCounts]] | Refusal:
    """Tokens of each row; what training could not write is refused here, by its line."""
    counts: list[tuple[Row, TokenCounts]] = []
    for row in rows:
        try:
            counts.append((row, _count(base, row)))
        except Invalid as error:
            said = f"Line {row.line} cannot be written as a chat: {error.message}"
            return Refusal(f"invalid_{param}", said, param, row.line)
    return counts


def _count(base: BaseModel, row: Row) -> TokenCounts:
    functions = functions_of(row.value.get("input", row.value))
    rendered = [
        render(base, conversation, add_generation_prompt=False, functions=functions)
        for conversation in _conversations(row)
    ]
    return TokenCounts(
        total=sum(len(each.token_ids) for each in rendered),
        trained=sum(sum(each.trained) for each in rendered),
        longest=max(len(each.token_ids) for each in rendered),
        kept=min(sum(each.trained[: base.training_tokens]) for each in rendered),
    )


def _conversations(row: Row) -> Sequence[Conversation]:
    """What is learned from a row: one conversation, or two that begin alike."""
    return conversations_of(row.value) if is_preference(row.value) else [row.value["messages"]]


def _shard(rows: Sequence[SourcedRow], name: str) -> tuple[bytes, list[str]]:
    """The shard's bytes, and a manifest line per row: where it lies and where it came from."""
    lines: list[bytes] = []
    manifest: list[str] = []
    offset = 0
    for sourced in rows:
        line = json.dumps(sourced.row.value, ensure_ascii=False).encode() + b"\n"
        entry = {
            "row": f"row_{uuid7().hex}",
            "source": sourced.source,
            "line": sourced.row.line,
            "shard": name,
            "offset": offset,
            "length": len(line),
        }
        manifest.append(json.dumps(entry) + "\n")
        lines.append(line)
        offset += len(line)
    return b"".join(lines), manifest
