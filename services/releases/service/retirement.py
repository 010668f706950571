"""Use cases of retirement: set the date on which a model ends, and announce it in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from services.releases.domain.retirement import Ending, end_of
from services.releases.repository import retirements
from services.releases.repository.retirements import Dependent, RetirementRow
from shared.contracts.releases import AnnounceRetirements, DependentWorkload, RetirementAnnounced
from shared.db import UnitOfWork
from shared.errors import Conflict, Invalid, Missing
from shared.spine import schedules

# Days change once a day, at midnight UTC; an hour later is early enough.
ANNOUNCE_SECONDS = 3_600.0
# All of a project are looked at in one transaction.
MAX_RETIREMENTS = 500
# What fits into a message beside a long name; the others are counted and listed by the API.
_NAMED_WORKLOADS = 20


@dataclass(frozen=True, slots=True)
class Retirement:
    """The end of a model, and the workloads it concerns, by name."""

    ending: Ending
    dependents: Sequence[Dependent]


def set_shutdown_date(uow: UnitOfWork, model: str, shutdown_date: date) -> Retirement:
    """
    Say that *model* ends on that day; a step that has been reached already is announced at once.

    Raises:
        Invalid: The day has passed.
        Conflict: The project has too many retirements.
    """
    _require_future(uow, shutdown_date)
    uow.take_turn("releases.retire", "")
    dates = retirements.dates(uow)
    before = dates.get(model)
    if before is None and len(dates) >= MAX_RETIREMENTS:
        raise Conflict(
            f"This project has {len(dates)} retirements; remove those that are over.",
            code="too_many_retirements",
        )
    if before != shutdown_date:
        retirements.put(uow, model, shutdown_date)
        facts = {"shutdown_date": str(shutdown_date), "before": before and str(before)}
        uow.audit("retirement.set", model, facts=facts)
    announce_due(uow)
    return next(each for each in list_retirements(uow) if each.ending.model == model)


def remove_retirement(uow: UnitOfWork, model: str) -> None:
    """
    Say that *model* does not end.

    Raises:
        Missing: No date was set for it.
    """
    uow.take_turn("releases.retire", "")
    before = retirements.delete(uow, model)
    if before is None:
        raise Missing(
            f"No shutdown date is set for '{model}'.", code="retirement_not_found", param="model"
        )
    uow.audit("retirement.removed", model, facts={"before": str(before)})
    announce_due(uow)


def list_retirements(uow: UnitOfWork, within_days: int | None = None) -> list[Retirement]:
    """
    Models for which a date was set, the first to end first.

    Args:
        uow: The transaction.
        within_days: Only those that have so many days left, or fewer; all when None.
    """
    rows = retirements.list_all(uow)
    dates = {row.model: row.shutdown_date for row in rows}
    dependents = retirements.list_dependents(uow)
    endings = sorted(
        (_ending(row, dates, uow.now.date()) for row in rows),
        key=lambda ending: (ending.shutdown_date, ending.model),
    )
    return [
        Retirement(ending, dependents.get(ending.model, []))
        for ending in endings
        if within_days is None or ending.days_left <= within_days
    ]


def announce_due(uow: UnitOfWork) -> None:
    """
    Announce what is due and was not announced; asked again every hour while more is to come.

    Idempotent by the announcements, which are made in this transaction, one after the other.
    """
    # Also so that a schedule is not ended while somebody sets a date.
    uow.take_turn("releases.retire", "")
    known = list_retirements(uow)
    for each in known:
        if each.ending.due_step is not None:
            _announce(uow, each, each.ending.due_step)
    if any(each.ending.has_further_step for each in known):
        schedules.every(uow, ANNOUNCE_SECONDS, AnnounceRetirements())
    else:
        schedules.stop(uow, AnnounceRetirements())


def _ending(row: RetirementRow, dates: dict[str, date], today: date) -> Ending:
    needed = [row.model] if row.base is None else [row.model, row.base]
    shutdown_date = end_of(needed, dates)
    assert shutdown_date is not None  # its own
    return Ending(
        model=row.model,
        set_date=row.shutdown_date,
        shutdown_date=shutdown_date,
        days_left=(shutdown_date - today).days,
        told=row.told,
    )


def _announce(uow: UnitOfWork, retirement: Retirement, step_days: int) -> None:
    ending, dependents = retirement.ending, retirement.dependents
    retirements.mark_announced(uow, ending.model, ending.shutdown_date, step_days)
    facts = {
        "shutdown_date": str(ending.shutdown_date),
        "days_left": ending.days_left,
        "step_days": step_days,
        "workloads": len(dependents),
    }
    uow.audit("retirement.announced", ending.model, facts=facts)
    uow.emit(
        RetirementAnnounced(
            model=ending.model,
            shutdown_date=ending.shutdown_date,
            days_left=ending.days_left,
            step_days=step_days,
            workload_count=len(dependents),
            workloads=tuple(
                DependentWorkload(workload_id=each.workload_id, name=each.name)
                for each in dependents[:_NAMED_WORKLOADS]
            ),
        )
    )


def _require_future(uow: UnitOfWork, shutdown_date: date) -> None:
    if shutdown_date < uow.now.date():
        raise Invalid(
            f"shutdown_date: {shutdown_date} has passed; give the day on which the model ends.",
            code="invalid_shutdown_date",
            param="shutdown_date",
        )
