"""The files of a batch on disk: the one it reads, and the two it writes. Blocking; for threads."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import IO

from services.inference.batches.domain.questions import Question, read_question
from services.inference.batches.domain.results import Result, write_answer, write_silence
from services.inference.batches.models import Batch
from services.inference.batches.working import NewFile, Written
from shared.blobs import BlobStore, mapped_disk_errors
from shared.errors import LeaseLost
from shared.ids import Digest, Project
from shared.jsonl import Line, read_lines

Results = Callable[[int], list[tuple[int, Result]]]


def lines_of(blobs: BlobStore, batch: Batch, given_up: Event) -> Iterator[Line]:
    """
    The lines of the input file.

    Raises:
        Missing: Its bytes are gone.
        Corrupt: They are not those that were uploaded.
        Invalid: A line is too long, or the file is UTF-16.
        LeaseLost: *given_up* was set meanwhile.
    """
    for line in read_lines(blobs.stream(Project(batch.project), Digest(batch.input_digest))):
        if given_up.is_set():
            raise LeaseLost(f"Batch {batch.id} is worked on here no more.")
        yield line


def questions_of(blobs: BlobStore, batch: Batch, given_up: Event) -> Iterator[Question]:
    """The requests of a file that was found good. Raises as `lines_of`."""
    return (read_question(line, batch.endpoint) for line in lines_of(blobs, batch, given_up))


def write_files(
    blobs: BlobStore,
    batch: Batch,
    questions: Iterable[Question],
    results: Results,
    *,
    silence: tuple[str, str],
) -> Written:
    """
    Store the output and the error file: the same answers give the same bytes.

    Args:
        blobs: Where they go.
        batch: Whose files they are.
        questions: All of them, in order.
        results: Some answers to lines behind a given one, in order; none at the end.
        silence: Code and message for requests without an answer.

    Raises:
        StorageFull: There is no room for them.
        Unavailable: The store does not answer.
    """
    with mapped_disk_errors(), tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        paths = [Path(name) / "output", Path(name) / "errors"]
        output, errors = (stack.enter_context(path.open("w", encoding="utf-8")) for path in paths)
        sheet = _Sheet(output, errors)
        answers = _all_results(results)
        line, result = next(answers, _END)
        for question in questions:
            if question.line == line and result is not None:
                sheet.write(batch.id, question, result)
                line, result = next(answers, _END)
            else:
                sheet.pass_over(batch.id, question, silence)
        stack.close()
        good, bad = (_stored(blobs, Project(batch.project), path) for path in paths)
    return Written(
        output=good,
        errors=bad,
        failed=sheet.failed,
        unanswered=sheet.unanswered,
    )


_END: tuple[int, Result | None] = (0, None)


@dataclass
class _Sheet:
    """The two files as they grow, and what is counted meanwhile."""

    output: IO[str]
    errors: IO[str]
    failed: int = 0
    unanswered: int = 0

    def write(self, batch_id: str, question: Question, result: Result) -> None:
        file = self.errors if result.is_error else self.output
        file.write(write_answer(batch_id, question.line, question.custom_id, result))
        self.failed += result.is_error

    def pass_over(self, batch_id: str, question: Question, silence: tuple[str, str]) -> None:
        self.errors.write(write_silence(batch_id, question.line, question.custom_id, silence))
        self.failed += 1
        self.unanswered += 1


def _all_results(results: Results) -> Iterator[tuple[int, Result | None]]:
    after = 0
    while page := results(after):
        yield from page
        after = page[-1][0]


def _stored(blobs: BlobStore, project: Project, path: Path) -> NewFile | None:
    size = path.stat().st_size
    return NewFile(blobs.put_path(project, path), size) if size else None
