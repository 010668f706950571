"""What the steps of an import share."""

from __future__ import annotations

from dataclasses import dataclass

from services.cli.connection import Connection
from services.cli.imports.folder import Folder
from services.cli.imports.journal import Journal
from services.cli.imports.old_service import OldService
from services.cli.imports.order import Order, Terms
from services.cli.screen import Screen


@dataclass(frozen=True, slots=True)
class Import:
    """
    An import that is under way.

    Attributes:
        token: Of this import and no other; marks what it makes here.
        old: None where the answers were logged.
    """

    order: Order
    terms: Terms
    connection: Connection
    screen: Screen
    folder: Folder
    journal: Journal
    token: str
    old: OldService | None


@dataclass(frozen=True, slots=True)
class Trained:
    """
    Attributes:
        seconds: From the order to the model; None where the job does not say.
        tokens: Over all epochs.
    """

    job: str
    model: str
    seconds: float | None
    tokens: int | None
