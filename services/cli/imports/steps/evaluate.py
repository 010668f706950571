"""The new model answers the cases, and is compared with what the old one answered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from services.cli.connection import Json
from services.cli.errors import CommandFailed
from services.cli.following import show_evaluation, watch_evaluation
from services.cli.imports.chats import Chat, write_rows
from services.cli.imports.journal import Golden
from services.cli.imports.prepared import Prepared
from services.cli.imports.steps.upload import upload
from services.cli.imports.work import Import, Trained
from shared.rendering.chat import text_of

_TIMEOUT_SECONDS = 24 * 3600.0


def evaluate(work: Import, prepared: Prepared, trained: Trained) -> tuple[Json, list[Chat]]:
    """
    The completed evaluation, and its cases line by line.

    Raises:
        CommandFailed: It failed or took too long, or there is nothing to compare.
    """
    rows, cases = [], []
    for case, row in recorded_rows(prepared.cases, work.journal.goldens, prepared.model):
        rows.append(row)
        cases.append(case)
    if not rows:
        raise CommandFailed("No case has an answer, right or recorded, to compare with.")
    file_id = upload(work, "cases", write_rows(rows), purpose="evals")
    evaluation_id = _find(work, trained.model, file_id) or _start(work, trained.model, file_id)
    found = watch_evaluation(
        work.connection, work.screen, evaluation_id, timeout_seconds=_TIMEOUT_SECONDS
    )
    show_evaluation(work.screen, found)
    return found, cases


def recorded_rows(
    cases: Sequence[Chat], goldens: dict[int, Golden], model: str
) -> Iterator[tuple[Chat, Json]]:
    """
    Rows as the API of evaluations takes them.

    Where no answer is known as right, the recorded one stands for it; a case with neither tells
    nothing and is left out.
    """
    for number, case in enumerate(cases):
        golden = goldens[number]
        expected = case.answer or {"role": "assistant", "content": golden.answer or ""}
        if not text_of(expected).strip():
            continue
        said = golden.model_dump(exclude={"is_cut", "is_refused"}, exclude_none=True)
        yield (
            case,
            {
                "messages": [*case.messages, expected],
                **case.tools,
                "recorded": {"model": model, "answer": None, **said},
            },
        )


def _find(work: Import, model: str, file_id: str) -> str | None:
    for found in work.connection.pages("evaluations"):
        if (found["model"], found["file_id"]) == (model, file_id) and found["state"] != "failed":
            return str(found["id"])
    return None


def _start(work: Import, model: str, file_id: str) -> str:
    body = {"model": model, "file_id": file_id, "recorded": True}
    return str(work.connection.post("evaluations", body=body)["id"])
