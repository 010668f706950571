"""Let other projects use a tuned model of this one, and stop it."""

from __future__ import annotations

from collections.abc import Sequence

from services.releases.repository import permissions
from services.releases.repository.permissions import PermissionRow
from services.releases.service.models import load_model
from shared.db import UnitOfWork
from shared.errors import Invalid, Missing
from shared.ids import new_id
from shared.rendering.bases import find_base


def permit(uow: UnitOfWork, model_id: str, projects: Sequence[str]) -> list[PermissionRow]:
    """
    Let *projects* use the model; for one that may already, nothing changes.

    Raises:
        Missing: There is no such model in this project.
        Invalid: It is a base, which everybody may use.
    """
    if find_base(model_id):
        raise Invalid(
            f"'{model_id}' is a base, which every project may use.",
            code="base_model_not_permittable",
            param="fine_tuned_model_checkpoint",
        )
    load_model(uow, model_id, lock=True)
    for project in projects:
        if permissions.insert(uow, new_id("cp_"), model_id, project):
            uow.audit("model.permitted", model_id, facts={"grantee": project})
    return permissions.find_all(uow, model_id, list(projects))


def withdraw(uow: UnitOfWork, model_id: str, permission_id: str) -> None:
    """
    From the next snapshot on the project may not use the model.

    Raises:
        Missing: There is no such permission for this model.
    """
    grantee = permissions.delete(uow, model_id, permission_id)
    if grantee is None:
        raise Missing(
            f"There is no permission '{permission_id}' for '{model_id}'.",
            code="permission_not_found",
            param="permission_id",
        )
    uow.audit("model.permission_withdrawn", model_id, facts={"grantee": grantee})
