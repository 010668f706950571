"""The report: its facts collected, decided and written."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from services.cli.connection import Json
from services.cli.imports.chats import Chat
from services.cli.imports.journal import Golden
from services.cli.imports.order import root_of
from services.cli.imports.prepared import Prepared
from services.cli.imports.report.decision import decide
from services.cli.imports.report.facts import Cost, Difference, Evaluation, Facts
from services.cli.imports.report.markdown import markdown
from services.cli.imports.report.page import page
from services.cli.imports.spending import Tokens
from services.cli.imports.work import Import, Trained

# As many as a person reads; all of them are at /api/v1/evaluations/{id}/cases.
_MOST_DIFFERENCES = 20
_LONGEST_TEXT = 2000
_ANSWERS = 1000


def tell(
    work: Import, prepared: Prepared, trained: Trained, found: Json, cases: Sequence[Chat]
) -> tuple[Facts, list[Path]]:
    """The facts, and the files of the report."""
    evaluation = Evaluation.model_validate(found)
    rows = list(work.connection.pages("evaluations", evaluation.id, "cases"))
    differences = list(differences_of(rows, cases))
    has_references = all(case.answer is not None for case in cases)
    decision = decide(
        evaluation,
        has_references=has_references,
        is_json=are_json(rows),
        margin=work.terms.margin,
        agreement=work.terms.agreement,
        training_rows=prepared.training_rows,
        base=work.order.base,
    )
    facts = Facts(
        name=work.order.name,
        written_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        old_model=prepared.model,
        old_base=prepared.old_base,
        service=work.order.service or None,
        model=trained.model,
        base=work.order.base,
        job=trained.job,
        training_rows=prepared.training_rows,
        training_seconds=trained.seconds,
        trained_tokens=trained.tokens,
        has_references=has_references,
        origin=prepared.origin,
        notes=(*prepared.notes, *_notes(work, prepared)),
        evaluation=evaluation,
        cost=_cost(work, prepared, trained, evaluation),
        differing=len(differences),
        differences=tuple(sorted(differences, key=_nearness)[:_MOST_DIFFERENCES]),
        decision=decision,
        commands=next_commands(work, prepared.model, trained.model, evaluation),
    )
    return facts, _write(work, facts)


def _write(work: Import, facts: Facts) -> list[Path]:
    forms = {
        "report.json": facts.model_dump_json(indent=2),
        "report.md": markdown(facts),
        "report.html": page(facts),
    }
    return [work.folder.save(name, text.encode()) for name, text in forms.items()]


def are_json(rows: Sequence[Json]) -> bool:
    """Whether every old answer of an evaluation's cases is a JSON object."""
    return all(row["agreement"]["fields"] is not None for row in rows if row["agreement"])


def differences_of(rows: Sequence[Json], cases: Sequence[Chat]) -> Iterator[Difference]:
    """
    Cases whose two answers are not the same.

    Args:
        rows: Cases of the evaluation, as the API shows them.
        cases: By their line, from 1.
    """
    for row in rows:
        agreement = row["agreement"]
        # Without an old answer there is nothing to differ from.
        if agreement is None or agreement["exact"]:
            continue
        case = cases[row["line"] - 1]
        yield Difference(
            line=row["line"],
            question=_cut("\n".join(map(_spoken, case.messages))),
            expected=_cut(row["expected"]) if case.answer is not None else None,
            old=_said(row["baseline"]),
            new=_said(row["candidate"]),
            similarity=agreement["similarity"],
        )


def _nearness(difference: Difference) -> float:
    return -1.0 if difference.similarity is None else difference.similarity


def _spoken(message: Json) -> str:
    content = message.get("content")
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    return f"{message['role']}: {text}"


def _said(side: Json) -> str:
    return _cut(side["answer"]) if side["error"] is None else f"no answer: {_cut(side['error'])}"


def _cut(text: str | None) -> str:
    text = text or ""
    if len(text) <= _LONGEST_TEXT:
        return text
    return f"{text[:_LONGEST_TEXT]} [{len(text) - _LONGEST_TEXT} more characters]"


def _notes(work: Import, prepared: Prepared) -> Iterator[str]:
    goldens = _goldens(work, prepared)
    cut = sum(golden.is_cut for golden in goldens)
    failed = sum(golden.answer is None for golden in goldens)
    if cut:
        yield (
            f"{cut} answers of the old model were cut at their longest length "
            "(--max-answer-tokens); they are compared as they are."
        )
    if failed:
        yield f"The old model gave no answer to {failed} cases."


def _goldens(work: Import, prepared: Prepared) -> list[Golden]:
    return [work.journal.goldens[number] for number in range(len(prepared.cases))]


def _cost(work: Import, prepared: Prepared, trained: Trained, evaluation: Evaluation) -> Cost:
    prices, machine = work.terms.prices, work.terms.machine_price
    counted = [
        Tokens(golden.input_tokens, golden.output_tokens)
        for golden in _goldens(work, prepared)
        if golden.input_tokens is not None and golden.output_tokens is not None
    ]
    before = prices.of(sum(counted, Tokens(0, 0))) / len(counted) if prices and counted else None
    latency = evaluation.metrics.candidate.latency
    return Cost(
        before=None if before is None else float(before * _ANSWERS),
        after=_rent(machine, latency.mean_ms / 1000 * _ANSWERS if latency else None),
        training=_rent(machine, trained.seconds),
        goldens=float(prices.of(work.journal.spent)) if prices and work.old else None,
    )


def _rent(price_an_hour: Decimal | None, seconds: float | None) -> float | None:
    """What a machine costs for so long."""
    if price_an_hour is None or seconds is None:
        return None
    return float(price_an_hour) * seconds / 3600


def next_commands(
    work: Import, old_model: str, model: str, evaluation: Evaluation
) -> tuple[str, ...]:
    """A workload that answers to the old id, and a canary of the new model before it."""
    name, old = work.order.name, shlex.quote(old_model)
    # A workload begins with a base, also where a tuned model was trained further.
    base = shlex.quote(root_of(work.order.base))
    ours = (
        "perpetune"
        if work.connection.is_local
        else f"perpetune --url {shlex.quote(work.connection.url)}"
    )
    gate = f"--evaluation {evaluation.id}"
    if evaluation.verdict != "pass":
        gate = f"--override 'Parity report of the import {name} was read.'"
    return (
        "# 1. The old id answers here, by the base until a release is live:",
        f"{ours} workloads create {name} --base {base} --alias {old}",
        "# 2. The new model takes over as a canary:",
        f"{ours} releases start {name} {shlex.quote(model)} {gate}",
        "# 3. Watch it, and change base_url of your clients:",
        f"{ours} releases list --workload {name}",
        "# 4. Keep the day in sight on which the old service ends:",
        f"{ours} retirements set {old} YYYY-MM-DD",
    )
