"""The plan of an import, shown before it is carried out."""

from __future__ import annotations

from services.cli.imports import journal as journals
from services.cli.imports.folder import Folder
from services.cli.imports.journal import Golden
from services.cli.imports.old_service import OldService
from services.cli.imports.order import Order, Terms, refuse_changes
from services.cli.imports.plan import Forecast, Plan, forecast, plan_from_logs, plan_from_service
from services.cli.screen import Screen


def rehearse(
    order: Order, terms: Terms, *, screen: Screen, folder: Folder, old: OldService | None
) -> dict[str, object]:
    """
    Show the plan and return it; nothing is written, and nothing is asked of the old model.

    What an earlier run has recorded is not counted again.

    Raises:
        CommandFailed: The files are not to be had, or an earlier run had another order.
    """
    known = _known(order, folder)
    plan = make_plan(order, terms, screen, old)
    cases = [
        case
        for number, case in enumerate(plan.choice.cases)
        if number not in known and case.key not in plan.goldens
    ]
    ahead = forecast(cases, max_answer_tokens=order.max_answer_tokens, prices=terms.prices)
    show_plan(screen, plan)
    _show_forecast(screen, plan.model, ahead)
    return _facts(plan, ahead)


def make_plan(order: Order, terms: Terms, screen: Screen, old: OldService | None) -> Plan:
    """The plan, from the old service or from logs."""
    if old is None:
        return plan_from_logs(order, terms)
    with screen.watch("old service") as watch:
        watch.update("looking for the job and fetching its files")
        return plan_from_service(order, terms, old)


def show_plan(screen: Screen, plan: Plan) -> None:
    """What is trained on and what is asked about."""
    choice = plan.choice
    base = f" (base {plan.old_base})" if plan.old_base else ""
    screen.say(f"old model {plan.model}{base}")
    screen.say(f"{len(choice.training)} rows to train on, {len(choice.validation)} to validate")
    screen.say(f"{len(choice.cases)} cases, from: {choice.origin}")
    for note in plan.notes:
        screen.say(note)


def _known(order: Order, folder: Folder) -> dict[int, Golden]:
    """Answers that an earlier run of the same order has recorded, by number of the case."""
    journal = journals.read(folder.journal)
    begun = journal.find("begun") if journal else None
    if journal is None or begun is None:
        return {}
    refuse_changes(begun["order"], order.as_facts(), order.name)
    return journal.goldens


def _show_forecast(screen: Screen, model: str, ahead: Forecast) -> None:
    about, most = ahead.expected, ahead.at_worst
    screen.say(f"questions to {model}: {ahead.calls}")
    screen.say(f"tokens read: about {about.input:,}, at most {most.input:,}")
    screen.say(f"tokens written: about {about.output:,}, at most {most.output:,}")
    if ahead.money is None:
        screen.say("money: not known; give --price-input and --price-output")
    else:
        screen.say(f"money: about {ahead.money:.4f}, at most {ahead.most_money:.4f}")
    screen.say("nothing was asked and nothing was written")


def _facts(plan: Plan, ahead: Forecast) -> dict[str, object]:
    return {
        "model": plan.model,
        "old_base": plan.old_base,
        "job": plan.job,
        "origin": plan.choice.origin,
        "cases": len(plan.choice.cases),
        "training_rows": len(plan.choice.training),
        "validation_rows": len(plan.choice.validation),
        "calls": ahead.calls,
        "expected_tokens": {"input": ahead.expected.input, "output": ahead.expected.output},
        "most_tokens": {"input": ahead.at_worst.input, "output": ahead.at_worst.output},
        "expected_money": None if ahead.money is None else float(ahead.money),
        "most_money": None if ahead.most_money is None else float(ahead.most_money),
        "notes": list(plan.notes),
    }
