"""Use cases that begin a release: the first one of a workload, one asked for, one of a cycle."""

from __future__ import annotations

from services.releases.domain import ReleaseState
from services.releases.repository import decisions, neighbours, releases
from services.releases.repository.releases import ReleaseRow
from services.releases.service.models import load_model
from shared.contracts.releases import LoadRelease, ReleasePromoted, StartRelease
from shared.contracts.workloads import WorkloadCreated
from shared.db import UnitOfWork
from shared.errors import Conflict, Invalid, Missing, Unavailable
from shared.ids import new_id, random_base62
from shared.policy import Workload, load_workload

FIRST_REASON = "The base model answers from the beginning."


def install_base(uow: UnitOfWork, event: WorkloadCreated) -> None:
    """Make the base of a new workload live at once; a second message changes nothing."""
    workload = load_workload(uow.session, event.workload_id)
    release = _insert(
        uow,
        workload,
        model=event.base_model,
        state=ReleaseState.LIVE,
        override_reason=FIRST_REASON,
    )
    if release is None:
        return
    decisions.append(uow, release, "promoted", share=1.0, reason=FIRST_REASON)
    uow.audit("release.promoted", release.release_id, reason=FIRST_REASON)
    uow.emit(
        ReleasePromoted(
            release_id=release.release_id,
            workload_id=release.workload_id,
            model=release.model,
            reason=FIRST_REASON,
        )
    )


def request_release(
    uow: UnitOfWork,
    *,
    workload: str,
    model: str,
    evaluation_id: str | None,
    override_reason: str | None,
) -> ReleaseRow:
    """
    Put *model* before a workload's traffic: gated now, a canary as soon as it is loaded.

    Raises:
        Missing: The workload, the model or the evaluation does not exist.
        Invalid: The gate is closed; the message says why.
        Conflict: Another release is under way, or the model is live already.
        Unavailable: The workload is so new that nothing is live yet.
    """
    found = load_workload(uow.session, workload)
    releases.lock_workload(uow, found.workload_id)
    for state in (ReleaseState.CANARY, ReleaseState.GATED):
        running = releases.find_in_state(uow, found.workload_id, state)
        if running:
            raise Conflict(
                f"Release {running.release_id} of this workload is under way ({state}); "
                "wait for its verdict or roll it back.",
                code="release_in_progress",
            )
    release = _start(
        uow, found, model=model, evaluation_id=evaluation_id, override_reason=override_reason
    )
    assert release is not None  # only a cycle can have a release already
    return release


def start_for_cycle(uow: UnitOfWork, command: StartRelease) -> None:
    """
    Gate and load the model of a cycle; while another canary runs it waits for its turn.

    Raises:
        Missing, Invalid, Unavailable: As in `request_release`.
    """
    workload = load_workload(uow.session, command.workload_id)
    releases.lock_workload(uow, workload.workload_id)
    _start(
        uow,
        workload,
        model=command.model,
        evaluation_id=command.evaluation_id,
        override_reason=None,
        cycle_id=command.cycle_id,
    )


def _start(
    uow: UnitOfWork,
    workload: Workload,
    *,
    model: str,
    evaluation_id: str | None,
    override_reason: str | None,
    cycle_id: str | None = None,
) -> ReleaseRow | None:
    load_model(uow, model, lock=True)
    _require_other_than_live(uow, workload, model)
    if evaluation_id is not None:
        _require_pass(uow, workload, model, evaluation_id)
    release = _insert(
        uow,
        workload,
        model=model,
        state=ReleaseState.GATED,
        evaluation_id=evaluation_id,
        override_reason=override_reason,
        cycle_id=cycle_id,
    )
    if release is None:
        return None
    facts = {"model": model, "workload": workload.name, "evaluation_id": evaluation_id}
    if override_reason is not None:
        uow.audit("gate.overridden", release.release_id, reason=override_reason, facts=facts)
    else:
        uow.audit("gate.passed", release.release_id, facts=facts)
    uow.emit(LoadRelease(release_id=release.release_id))
    return release


def _insert(
    uow: UnitOfWork,
    workload: Workload,
    *,
    model: str,
    state: ReleaseState,
    evaluation_id: str | None = None,
    override_reason: str | None = None,
    cycle_id: str | None = None,
) -> ReleaseRow | None:
    release_id = new_id("rel")
    is_new = releases.insert(
        uow,
        {
            "release_id": release_id,
            "workload_id": workload.workload_id,
            "model": model,
            "state": state,
            "share": 1.0 if state is ReleaseState.LIVE else 0.0,
            # Of this release alone, or the same units would be the first to be tried each time.
            "salt": random_base62(16),
            "policy_version": workload.policy_version,
            "evaluation_id": evaluation_id,
            "override_reason": override_reason,
            "cycle_id": cycle_id,
            "reason": override_reason or "",
        },
    )
    return releases.load(uow, release_id) if is_new else None


def _require_other_than_live(uow: UnitOfWork, workload: Workload, model: str) -> None:
    live = releases.find_in_state(uow, workload.workload_id, ReleaseState.LIVE)
    if live is None:
        raise Unavailable(
            "The workload's base model is being put live; repeat in a moment.",
            code="no_live_release",
            retry_after=1,
        )
    if live.model == model:
        raise Conflict(
            f"'{model}' is live already (release {live.release_id}).",
            code="model_is_live",
            param="model",
        )


def _require_pass(uow: UnitOfWork, workload: Workload, model: str, evaluation_id: str) -> None:
    found = neighbours.find_verdict(uow, evaluation_id)
    if found is None:
        raise Missing(
            f"There is no finished evaluation '{evaluation_id}'; wait for its end or start one.",
            code="evaluation_not_found",
            param="evaluation_id",
        )
    other_workload = found.workload_id not in {None, workload.workload_id}
    if found.model != model or other_workload:
        raise Invalid(
            f"Evaluation {evaluation_id} is about another "
            f"{'workload' if other_workload else 'model: ' + found.model}; evaluate this one.",
            code="gate_mismatch",
            param="evaluation_id",
        )
    if found.verdict != "pass":
        raise Invalid(
            f"Evaluation {evaluation_id} did not pass; train a better model, or release it with "
            "`override: {reason}`, which is recorded.",
            code="gate_failed",
            param="evaluation_id",
        )
