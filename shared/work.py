"""What a phased task works with: a unit of work per phase, the last of which takes the delivery."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from shared.context import Context
from shared.db import UnitOfWork, Units
from shared.errors import LeaseLost
from shared.spine import deliveries
from shared.spine.deliveries import Delivery


@dataclass(frozen=True)
class Work:
    """Units of work, and the delivery they answer for."""

    units: Units
    delivery: Delivery
    context: Context

    @contextmanager
    def open(self) -> Iterator[UnitOfWork]:
        """One phase; the delivery stays due should the process die after it."""
        with self.units.open(self.context) as uow:
            yield uow

    @contextmanager
    def finish(self) -> Iterator[UnitOfWork]:
        """The last phase: takes the delivery in the transaction of its effect.

        Raises:
            LeaseLost: Another worker finished it meanwhile; nothing is written here.
        """
        with self.units.open(self.context) as uow:
            if deliveries.take(uow.session, self.delivery.id) is None:
                raise LeaseLost(f"Delivery {self.delivery.id} was finished by another worker.")
            yield uow
