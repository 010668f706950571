"""
A step of a job at its provider: one conversation, outside any transaction, and a record of what
came of it, in the transaction that ends the step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from services.finetuning.models import Job, ProviderRun
from services.finetuning.provider.ports import Provider
from services.finetuning.settings import FinetuningSettings
from shared.blobs import BlobStore
from shared.db import UnitOfWork

Record = Callable[[UnitOfWork, ProviderRun, Job], None]
"""Writes down what a step found."""


@dataclass(frozen=True)
class Desk:
    """
    What steps work with.

    Attributes:
        open: A conversation with the provider of this name, within the time of a step.
    """

    open: Callable[[str], Provider]
    blobs: BlobStore
    settings: FinetuningSettings


@dataclass(frozen=True)
class Outcome:
    """
    What came of a step.

    Attributes:
        made: Id of a job at the provider that is written down by *record* alone.
        rest_seconds: The next step is not before that.
    """

    record: Record
    made: str | None = None
    rest_seconds: float = 0.0


class Step(Protocol):
    def perform(self, provider: Provider, desk: Desk) -> Outcome: ...
