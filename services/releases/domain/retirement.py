"""When models end, and when that is announced."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

# Three months to choose another model, one to retrain and to watch a canary, a week to switch.
STEPS_DAYS = (90, 30, 7)


@dataclass(frozen=True, slots=True)
class Ending:
    """
    The end of a model for which a date was set.

    Attributes:
        set_date: The date that was set.
        shutdown_date: The earlier one of that and its base's.
        days_left: Whole days from today to the shutdown date; negative when it has passed.
        told: Steps that were announced for the date that was set, in days.
    """

    model: str
    set_date: date
    shutdown_date: date
    days_left: int
    told: frozenset[int] = frozenset()

    @property
    def is_its_own(self) -> bool:
        """Whether the model ends by its own date; an earlier one of its base is the base's news."""
        return self.set_date == self.shutdown_date

    @property
    def due_step(self) -> int | None:
        """
        The step to announce now, in days; of those that were missed only the nearest one, and none
        once the day has passed.
        """
        step = reached_step(self.days_left)
        is_due = self.is_its_own and self.days_left >= 0 and step not in self.told
        return step if is_due else None

    @property
    def has_further_step(self) -> bool:
        """Whether there is something to announce on a later day."""
        return self.is_its_own and reached_step(self.days_left) != min(STEPS_DAYS)


def reached_step(days_left: int) -> int | None:
    """The last of the steps whose day has come; None before the first."""
    return min((step for step in STEPS_DAYS if days_left <= step), default=None)


def end_of(names: Iterable[str], dates: Mapping[str, date]) -> date | None:
    """
    The day on which something ends that needs all of *names*: a tuned model needs its base.

    Args:
        names: Of models.
        dates: Shutdown dates by name; models without one do not end.
    """
    return min((dates[name] for name in names if name in dates), default=None)
