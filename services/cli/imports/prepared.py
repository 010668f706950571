"""A plan that has been written down: from then on the import needs nothing of it again."""

from __future__ import annotations

import json
from dataclasses import dataclass

from services.cli.connection import Json
from services.cli.errors import CommandFailed
from services.cli.imports.chats import Chat, write_rows
from services.cli.imports.folder import Folder
from services.cli.imports.journal import Journal
from services.cli.imports.plan import Plan

_CASES, _TRAINING, _VALIDATION = "cases.jsonl", "training.jsonl", "validation.jsonl"


@dataclass(frozen=True, slots=True)
class Prepared:
    """
    Attributes:
        model, old_base, job, origin, notes: As in `Plan`.
        method: Of the job here, `supervised` or `dpo`.
        cases: In the order in which they are asked.
        training, validation: Files as they are uploaded; the second may be empty.
        training_rows: Lines of the first.
    """

    model: str
    old_base: str | None
    job: str | None
    origin: str
    notes: tuple[str, ...]
    method: str
    cases: tuple[Chat, ...]
    training: bytes
    validation: bytes
    training_rows: int


def save(plan: Plan, folder: Folder, journal: Journal, *, asked_for: int) -> None:
    """Write the files, then that they are whole; known answers stand in the journal before it."""
    choice = plan.choice
    folder.save(_TRAINING, write_rows(chat.row for chat in choice.training))
    folder.save(_VALIDATION, write_rows(chat.row for chat in choice.validation))
    folder.save(_CASES, write_rows(map(_written, choice.cases)))
    for number, case in enumerate(choice.cases):
        golden = plan.goldens.get(case.key)
        if golden is not None:
            journal.note_golden(number, golden)
    journal.note(
        "planned",
        model=plan.model,
        old_base=plan.old_base,
        job=plan.job,
        origin=choice.origin,
        notes=list(plan.notes),
        method="dpo" if choice.training[0].is_preference else "supervised",
        training_rows=len(choice.training),
        asked_for=asked_for,
    )


def load(folder: Folder, journal: Journal, *, cases: int) -> Prepared | None:
    """
    What was written down; None where nothing was, or not all of it.

    Args:
        folder: Of the import.
        journal: Of the import.
        cases: How many are wanted now.

    Raises:
        CommandFailed: More cases are wanted than were planned.
    """
    planned = journal.find("planned")
    if planned is None:
        return None
    if cases > planned["asked_for"]:
        raise CommandFailed(
            f"This import has planned {planned['asked_for']} cases, and only fewer can be asked "
            f"for now: --cases {planned['asked_for']} or less. More are an import of another "
            "--name."
        )
    return Prepared(
        model=planned["model"],
        old_base=planned["old_base"],
        job=planned["job"],
        origin=planned["origin"],
        notes=tuple(planned["notes"]),
        method=planned["method"],
        cases=tuple(map(_read, folder.load(_CASES).splitlines()))[:cases],
        training=folder.load(_TRAINING),
        validation=folder.load(_VALIDATION),
        training_rows=planned["training_rows"],
    )


def _written(case: Chat) -> Json:
    return {"messages": list(case.messages), "answer": case.answer, "tools": case.tools}


def _read(line: bytes) -> Chat:
    row = json.loads(line)
    return Chat(row, tuple(row["messages"]), row["answer"], row["tools"])
