"""Golden answers: what the old model says to each case, written down one by one."""

from __future__ import annotations

from services.cli.errors import CommandFailed
from services.cli.imports.journal import Golden
from services.cli.imports.old_service import OldService
from services.cli.imports.patience import TryAgain, patiently
from services.cli.imports.prepared import Prepared
from services.cli.imports.spending import Tokens, at_worst
from services.cli.imports.work import Import
from services.cli.screen import Watch


def record(work: Import, prepared: Prepared) -> None:
    """
    Ask what has not been answered yet.

    Raises:
        CommandFailed: The budget does not allow the next question, or the service says no.
    """
    cases, goldens = prepared.cases, work.journal.goldens
    with work.screen.watch("golden answers") as watch:
        for number in range(len(cases)):
            if number not in goldens and work.old is not None:
                golden = _ask(work, work.old, prepared, number, watch)
                work.journal.note_golden(number, golden)
            done = sum(each < len(cases) for each in goldens)
            watch.update(_note(work, done, len(cases)), done=done, total=len(cases))
    failed = [number for number in range(len(cases)) if goldens[number].answer is None]
    if len(failed) == len(cases):
        raise CommandFailed(
            f"The old model answered none of the {len(cases)} cases; the first reason was: "
            f"{goldens[failed[0]].error}"
        )


def _ask(work: Import, old: OldService, prepared: Prepared, number: int, watch: Watch) -> Golden:
    case, longest = prepared.cases[number], work.order.max_answer_tokens
    most = at_worst(case, max_answer_tokens=longest)

    def attempt() -> Golden:
        # A process that dies while it waits has asked nothing.
        old.await_turn()
        _check_budget(work, most, number, len(prepared.cases))
        work.journal.note_asking(number, most)
        try:
            return old.ask(prepared.model, case, max_answer_tokens=longest)
        except CommandFailed:
            work.journal.note_unbilled(number)
            raise
        except TryAgain as error:
            if not error.may_be_billed:
                work.journal.note_unbilled(number)
            raise

    return patiently(attempt, watch.update)


def _check_budget(work: Import, most: Tokens, number: int, cases: int) -> None:
    """What a question takes at worst is reserved before it is asked."""
    terms = work.terms
    if terms.budget is None or terms.prices is None:
        return
    spent = terms.prices.of(work.journal.spent)
    if spent + terms.prices.of(most) <= terms.budget:
        return
    fewer = f", or with --cases {number} to go on with what is there" if number else ""
    raise CommandFailed(
        f"The budget of {terms.budget} does not allow the next question: {spent:.4f} are spent on "
        f"{number} of {cases} answers, and it may take {terms.prices.of(most):.4f}. Repeat the "
        f"command with a larger --budget{fewer}."
    )


def _note(work: Import, done: int, of: int) -> str:
    prices = work.terms.prices
    if work.old is None or prices is None:
        return f"{done} of {of}"
    return f"{done} of {of}, {prices.of(work.journal.spent):.4f} spent"
