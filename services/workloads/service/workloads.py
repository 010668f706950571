"""Use cases of workloads: create one, replace its policy or its aliases."""

from __future__ import annotations

from collections.abc import Sequence

from services.workloads.repository import neighbours, workloads
from services.workloads.repository.workloads import WorkloadRow
from shared.contracts.workloads import WorkloadCreated
from shared.db import UnitOfWork
from shared.errors import Conflict, Invalid, Missing
from shared.ids import new_id
from shared.policy import Policy
from shared.rendering.bases import find_base, list_bases


def create_workload(
    uow: UnitOfWork, *, name: str, base_model: str, aliases: Sequence[str], policy: Policy
) -> WorkloadRow:
    """
    A new workload with version 1 of its policy; its base is put live by what follows.

    Raises:
        Missing: The base model is not installed here.
        Conflict: The name or an alias means something else already.
        Invalid: An alias is given twice, or the fallback model is not known.
    """
    _require_base(base_model)
    _require_fallback(uow, policy)
    workload_id = new_id("wl")
    workloads.insert(uow, workload_id=workload_id, name=name, base_model=base_model)
    for param, alias in [("name", name), *(("aliases", alias) for alias in aliases)]:
        _claim(uow, workload_id, alias, param)
    workloads.insert_policy(uow, workload_id, 1, policy)
    uow.emit(WorkloadCreated(workload_id=workload_id, name=name, base_model=base_model))
    uow.audit("workload.created", workload_id, facts={"name": name, "base_model": base_model})
    return workloads.load(uow, workload_id)


def replace_policy(uow: UnitOfWork, name: str, policy: Policy) -> WorkloadRow:
    """
    The next version of a workload's policy; canaries, monitors and cycles that run keep theirs.

    Raises:
        Missing: There is no such workload.
        Conflict: Somebody else replaced it at the same time.
        Invalid: The fallback model is not known.
    """
    workload = workloads.load(uow, name)
    _require_fallback(uow, policy)
    version = workload.policy_version + 1
    workloads.insert_policy(uow, workload.workload_id, version, policy)
    uow.audit("policy.replaced", workload.workload_id, facts={"version": version})
    return workloads.load(uow, workload.workload_id)


def replace_aliases(uow: UnitOfWork, name: str, aliases: Sequence[str]) -> WorkloadRow:
    """
    What else a workload answers to, from the next snapshot on; its name stays its own.

    Raises:
        Missing: There is no such workload.
        Conflict: An alias means something else already.
    """
    workloads.lock(uow, workloads.load(uow, name).workload_id)
    workload = workloads.load(uow, name)
    before, wanted = set(workload.aliases), set(aliases) - {workload.name}
    for alias in sorted(before - wanted):
        workloads.release_alias(uow, workload.workload_id, alias)
    for alias in sorted(wanted - before):
        _claim(uow, workload.workload_id, alias, "aliases")
    uow.audit("aliases.replaced", workload.workload_id, facts={"aliases": sorted(wanted)})
    return workloads.load(uow, workload.workload_id)


def _claim(uow: UnitOfWork, workload_id: str, alias: str, param: str) -> None:
    if find_base(alias):
        raise Conflict(
            f"'{alias}' is the name of a base model; choose another.",
            code="name_taken",
            param=param,
        )
    if not workloads.claim_alias(uow, workload_id, alias):
        raise Conflict(
            f"'{alias}' is a workload's name or alias already; choose another.",
            code="name_taken",
            param=param,
        )


def _require_base(base_model: str) -> None:
    if find_base(base_model) is None:
        known = ", ".join(base.name for base in list_bases()) or "none"
        raise Missing(
            f"The base model '{base_model}' is not installed here. Installed: {known}.",
            code="model_not_found",
            param="base_model",
        )


def _require_fallback(uow: UnitOfWork, policy: Policy) -> None:
    model = policy.fallback_model
    if model and not find_base(model) and not neighbours.find_base_of(uow, model):
        raise Invalid(
            f"The fallback model '{model}' is not known; name a base or a model of this project.",
            code="model_not_found",
            param="policy.fallback_model",
        )
