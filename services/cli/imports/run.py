"""An import from its order to its report; interrupted anywhere, it goes on there."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from services.cli.connection import Connection
from services.cli.errors import CommandFailed, told
from services.cli.imports import journal as journals
from services.cli.imports import prepared as preparing
from services.cli.imports.folder import Folder
from services.cli.imports.journal import Journal
from services.cli.imports.old_service import OldService
from services.cli.imports.order import Order, Terms, refuse_changes
from services.cli.imports.prepared import Prepared
from services.cli.imports.rehearsal import make_plan, show_plan
from services.cli.imports.report.facts import Facts
from services.cli.imports.steps.evaluate import evaluate
from services.cli.imports.steps.record import record
from services.cli.imports.steps.tell import tell
from services.cli.imports.steps.train import check_rows, train
from services.cli.imports.work import Import
from services.cli.screen import Screen, percent

_STEPS = 5

T = TypeVar("T")


def run(
    order: Order,
    terms: Terms,
    *,
    connection: Connection,
    screen: Screen,
    folder: Folder,
    old: OldService | None,
) -> tuple[Facts, list[Path]]:
    """
    All steps; those that were taken by an earlier run are looked up.

    Raises:
        CommandFailed: A step failed; the same command goes on with it.
    """
    # Before anything is asked of a service that costs money.
    connection.openai.models.retrieve(order.base)
    folder.create()
    with journals.opened(folder.journal) as journal:
        token = _begin(order, journal)
        work = Import(order, terms, connection, screen, folder, journal, token, old)
        prepared = _step(screen, 1, "files and cases", lambda: _prepare(work))
        _step(screen, 2, "golden answers", lambda: record(work, prepared))
        trained = _step(screen, 3, "training", lambda: train(work, prepared))
        found, cases = _step(screen, 4, "evaluation", lambda: evaluate(work, prepared, trained))
        return _step(
            screen, 5, "parity report", lambda: tell(work, prepared, trained, found, cases)
        )


def show(screen: Screen, facts: Facts, files: list[Path]) -> None:
    """The end of it, for people."""
    decision, agreement = facts.decision, facts.evaluation.metrics.agreement
    for criterion in decision.criteria:
        mark = "pass" if criterion.passed else "NOT YET"
        screen.say(f"{mark}  {criterion.name}: {criterion.sentence}")
    if agreement is not None:
        screen.say(
            f"agreement with the old answers: exact {percent(agreement.exact.estimate)}, "
            f"semantic {percent(agreement.semantic.estimate)}; {facts.differing} cases differ"
        )
    screen.end(f"Verdict: {'pass' if decision.passed else 'not yet'}", "bold")
    for line in decision.advice:
        screen.say(line)
    for path in files:
        screen.end(f"Report   {path}")
    screen.end("")
    for line in facts.commands:
        screen.end(line)


def _begin(order: Order, journal: Journal) -> str:
    """The import's own mark, made once."""
    begun = journal.find("begun")
    if begun is None:
        token = f"{order.name}-{secrets.token_hex(8)}"
        begun = journal.note("begun", token=token, order=dict(order.as_facts()))
    refuse_changes(begun["order"], order.as_facts(), order.name)
    return str(begun["token"])


def _prepare(work: Import) -> Prepared:
    prepared = preparing.load(work.folder, work.journal, cases=work.terms.cases)
    if prepared is None:
        plan = make_plan(work.order, work.terms, work.screen, work.old)
        preparing.save(plan, work.folder, work.journal, asked_for=work.terms.cases)
        show_plan(work.screen, plan)
        prepared = preparing.load(work.folder, work.journal, cases=work.terms.cases)
        assert prepared is not None  # it was just saved
    else:
        work.screen.say(
            f"found in {work.folder.path}: {len(prepared.cases)} cases, "
            f"{prepared.training_rows} training rows"
        )
    check_rows(work, prepared)
    return prepared


def _step(screen: Screen, number: int, title: str, step: Callable[[], T]) -> T:
    screen.step(number, _STEPS, title)
    try:
        with told():
            return step()
    except CommandFailed as error:
        raise CommandFailed(f"Step {number} ({title}) failed. {error}") from error
