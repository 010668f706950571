"""Use case: make a gated release answer, then give it its first share of the traffic."""

from __future__ import annotations

from dataclasses import dataclass

from services.releases.domain import CanaryPolicy, Guardrail, ReleaseState, begin
from services.releases.ports import Serving
from services.releases.repository import decisions, evidence, models, releases
from services.releases.service import settle
from services.releases.service.models import Model, load_model
from shared.blobs import BlobStore
from shared.contracts.releases import FoldCanary, ReleaseStarted
from shared.db import UnitOfWork
from shared.errors import Corrupt, Invalid, Missing, PerpetuneError, Unavailable
from shared.ids import Digest
from shared.policy import CanaryRules, load_workload
from shared.spine import schedules
from shared.statistics.codec import to_json
from shared.task import Work

# Evidence is looked at twice a second: a bad canary is stopped within about that time.
FOLD_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class _Plan:
    model: Model
    retired: list[str]


def load_release(work: Work, serving: Serving, blobs: BlobStore, release_id: str) -> None:
    """
    Load, then begin the canary. Safe to repeat: loading what is loaded changes nothing, and only a
    gated release begins a canary.

    Raises:
        Unavailable: The model server or the blob store does not answer; due again later.
    """
    with work.open() as uow:
        plan = _plan(uow, release_id)
    refusal = None if plan is None else _bring_up(work, serving, blobs, plan)
    with work.finish() as uow:
        if refusal is not None:
            settle.withdraw(uow, release_id, f"It cannot be loaded: {refusal.message}")
        elif plan is not None:
            begin_canary(uow, release_id)


def begin_canary(uow: UnitOfWork, release_id: str) -> None:
    """
    Put a gated release beside the live one. While another canary of the workload runs it stays
    gated, and is loaded again when that one ends.

    Raises:
        Unavailable: Nothing is live yet to compare with.
    """
    workload_id = releases.load(uow, release_id).workload_id
    releases.lock_workload(uow, workload_id)
    release = releases.load_locked(uow, release_id)
    running = releases.find_in_state(uow, workload_id, ReleaseState.CANARY)
    if release.state is not ReleaseState.GATED or running:
        return
    control = releases.find_in_state(uow, workload_id, ReleaseState.LIVE)
    if control is None:
        raise Unavailable(
            "The workload has no live release to compare with; repeat in a moment.",
            code="no_live_release",
        )
    workload = load_workload(uow.session, workload_id)
    policy = canary_policy(workload.policy.canary)
    releases.begin_canary(
        uow,
        release,
        control,
        share=policy.shares[0],
        canary=to_json(begin(policy)),
        policy_version=workload.policy_version,
        position=str(evidence.position_now(uow)),
    )
    _announce(uow, release_id)


def canary_policy(rules: CanaryRules) -> CanaryPolicy:
    """The numbers of one canary from a workload's policy."""
    return CanaryPolicy(
        margin=rules.margin,
        alpha_promote=rules.alpha_promote,
        alpha_rollback=rules.alpha_rollback,
        shares=rules.shares,
        cap_outcomes=rules.cap_outcomes,
        cap_days=rules.cap_days,
        guardrails=tuple(Guardrail(name) for name in rules.guardrails),
        guardrail_tolerance=rules.guardrail_tolerance,
    )


def _announce(uow: UnitOfWork, release_id: str) -> None:
    release = releases.load(uow, release_id)
    reason = f"Beside {release.control_model}, at {release.share:.0%} of the units."
    decisions.append(uow, release, "started", share=release.share, reason=reason)
    schedules.every(uow, FOLD_SECONDS, FoldCanary(release_id=release_id))
    uow.audit("release.started", release_id, reason=reason, facts={"share": release.share})
    uow.emit(
        ReleaseStarted(
            release_id=release_id,
            workload_id=release.workload_id,
            model=release.model,
            share=release.share,
            cycle_id=release.cycle_id,
        )
    )


def _plan(uow: UnitOfWork, release_id: str) -> _Plan | None:
    release = releases.load(uow, release_id)
    running = releases.find_in_state(uow, release.workload_id, ReleaseState.CANARY)
    if release.state is not ReleaseState.GATED or running:
        return None
    return _Plan(load_model(uow, release.model), models.list_retired(uow, release.workload_id))


def _bring_up(work: Work, serving: Serving, blobs: BlobStore, plan: _Plan) -> PerpetuneError | None:
    """Load the model; the error, where it can never be loaded."""
    # A pinned model that no release needs any more would take the place of this one.
    for model_id in plan.retired:
        serving.unload(model_id)
    digest = plan.model.gguf_digest
    try:
        adapter = str(blobs.path(work.context.project, Digest(digest))) if digest else None
        serving.load(plan.model.model_id, base=plan.model.base, adapter=adapter, pinned=True)
    except (Invalid, Missing, Corrupt) as error:
        return error
    return None
