"""Use cases of the registry. A model is a base of the installation or a tuned one of a project."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.releases.repository import models, retirements
from shared.contracts.finetuning import ModelCreated
from shared.db import UnitOfWork
from shared.errors import Conflict, Forbidden, Missing
from shared.rendering.bases import find_base, list_bases


@dataclass(frozen=True, slots=True)
class Model:
    """
    Attributes:
        base: What it was tuned from; itself for a base.
        gguf_digest: Blob of the adapter; None for a base.
        created: Unix seconds; 0 for a base, which was there before us.
        owner: The project's slug, or `system`.
        live_model: Of a workload's name: the model that answers under it.
    """

    model_id: str
    base: str
    gguf_digest: str | None
    created: int
    owner: str
    live_model: str | None = None

    @property
    def needs(self) -> tuple[str, ...]:
        """Models that must answer for this one to answer, itself among them."""
        return tuple({self.model_id, self.base, self.live_model or self.model_id})


def register_model(uow: UnitOfWork, event: ModelCreated) -> None:
    """Make a model known; a second message about it changes nothing."""
    if models.insert(uow, event):
        facts = {"kind": event.kind, "base": event.base, "job_id": event.job_id}
        uow.audit("model.registered", event.model_id, facts=facts)


def list_models(uow: UnitOfWork) -> Sequence[Model]:
    """Bases first, then the project's own."""
    tuned = [_tuned(uow, row) for row in models.list_all(uow)]
    return [*(_base(base.name) for base in list_bases()), *tuned]


def list_answering(uow: UnitOfWork) -> Sequence[Model]:
    """All that can be asked by name: models, then workloads by name and alias."""
    known = list_models(uow)
    ids = {model.model_id for model in known}
    routed = [_routed(uow, name) for name in models.list_names(uow) if name.name not in ids]
    return [*known, *routed]


def load_answering(uow: UnitOfWork, name: str) -> Model:
    """
    The model of this id, or what answers under this name.

    Raises:
        Missing: Nothing in this project does.
    """
    routed = next((each for each in models.list_names(uow) if each.name == name), None)
    return _routed(uow, routed) if routed else load_model(uow, name)


def load_model(uow: UnitOfWork, model_id: str, *, lock: bool = False) -> Model:
    """
    Args:
        uow: The transaction.
        model_id: Of a base or of a tuned model.
        lock: Keep a tuned model from being deleted until the end of the transaction.

    Raises:
        Missing: There is no such model in this project.
    """
    if find_base(model_id):
        return _base(model_id)
    row = models.find(uow, model_id, lock=lock)
    if row is None:
        raise Missing(
            f"The model '{model_id}' does not exist; GET /v1/models lists those that do.",
            code="model_not_found",
            param="model",
        )
    return _tuned(uow, row)


def delete_model(uow: UnitOfWork, model_id: str) -> None:
    """
    Take a tuned model out of the registry.

    Raises:
        Forbidden: It is a base, which belongs to the installation.
        Missing: There is no such model.
        Conflict: A release needs it; the message names the release.
    """
    if find_base(model_id):
        raise Forbidden(
            f"'{model_id}' is a base model of this installation and cannot be deleted.",
            code="base_model_not_deletable",
        )
    load_model(uow, model_id, lock=True)
    release_id = models.find_use(uow, model_id)
    if release_id is not None:
        raise Conflict(
            f"Release {release_id} needs this model: it is live, on its way there, or what the "
            "live release goes back to. Release another model first.",
            code="model_in_use",
            param="model",
        )
    models.mark_deleted(uow, model_id)
    retirements.delete(uow, model_id)
    uow.audit("model.deleted", model_id)


def _routed(uow: UnitOfWork, name: models.RoutedName) -> Model:
    created = int(name.since.timestamp())
    return Model(name.name, name.base, None, created, uow.project, live_model=name.live_model)


def _base(name: str) -> Model:
    return Model(name, name, None, 0, "system")


def _tuned(uow: UnitOfWork, row: models.ModelRow) -> Model:
    created = int(row.created_at.timestamp())
    return Model(row.model_id, row.base, row.gguf_digest, created, uow.project)
