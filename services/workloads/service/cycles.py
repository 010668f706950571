"""Use cases of cycles: open one, hear what happened, send the next command.

Every message may come twice, late or after the cycle went on: `domain.decide` ignores it then.
"""

from __future__ import annotations

from services.workloads import domain
from services.workloads.domain import Closed, Cycle, Event, Stage
from services.workloads.repository import cycles, neighbours, workloads
from services.workloads.repository.cycles import CycleRow
from services.workloads.service.commands import send_command
from shared.contracts.drift import DriftDetected
from shared.contracts.envelope import Message
from shared.contracts.feedback import CorrectionRecorded
from shared.contracts.workloads import CheckCycleDeadline, CycleClosed, CycleOpened
from shared.db import UnitOfWork
from shared.errors import Conflict, Unavailable
from shared.ids import new_id
from shared.policy import Policy


def request_cycle(uow: UnitOfWork, workload: str, reason: str) -> CycleRow:
    """
    Open a cycle because somebody asks for it.

    Raises:
        Missing: There is no such workload.
        Conflict: One is open already; the message names it.
    """
    workload_id = workloads.load(uow, workload).workload_id
    opened = _open(uow, workload_id, trigger="request", alert_id=None, reason=reason)
    if opened is None:
        running = cycles.find_open(uow, workload_id)
        raise Conflict(
            "The workload has an open cycle; wait for its end"
            + (f": GET /api/v1/cycles/{running.cycle.cycle_id}." if running else "."),
            code="cycle_open",
        )
    return opened


def answer_alert(uow: UnitOfWork, alert: DriftDetected) -> None:
    """
    Open a cycle for an alert, where the policy allows it; else record why not.

    An alert on a release that is not live any more is out of date.

    Raises:
        Unavailable: The minimum interval since the last cycle has not passed; due again then.
    """
    workload = workloads.load(uow, alert.workload_id)
    if neighbours.load_live(uow, alert.workload_id).release_id != alert.release_id:
        return
    if not (alert.may_retrain and workload.policy.retraining.automatic):
        why = "only outcomes start a retraining" if not alert.may_retrain else "policy: by hand"
        uow.audit("retraining.declined", alert.workload_id, reason=f"{alert.alert_id}: {why}.")
        return
    _wait_out_interval(uow, alert.workload_id, workload.policy)
    reason = f"{alert.metric} drifted: {alert.statistic:.0f} reached {alert.threshold:.0f}."
    if not _open(uow, alert.workload_id, trigger="drift", alert_id=alert.alert_id, reason=reason):
        why = f"{alert.alert_id}: a cycle is open already."
        uow.audit("retraining.declined", alert.workload_id, reason=why)


def hear_correction(uow: UnitOfWork, message: CorrectionRecorded) -> None:
    """Remember how many corrections wait; an open cycle may have been waiting for this one."""
    workloads.lock_corrections(uow, message.workload_id)
    workloads.set_corrections(uow, message.workload_id, message.waiting)
    row = cycles.find_open(uow, message.workload_id)
    if row is not None:
        _apply(uow, row, domain.decide(row.cycle, message))


def hear(uow: UnitOfWork, cycle_id: str | None, message: Message) -> None:
    """What happened to something that a cycle asked for; None is nobody's cycle."""
    row = cycles.find_locked(uow, cycle_id) if cycle_id else None
    if row is not None:
        _apply(uow, row, domain.decide(row.cycle, message))


def _open(
    uow: UnitOfWork, workload_id: str, *, trigger: str, alert_id: str | None, reason: str
) -> CycleRow | None:
    workload = workloads.load(uow, workload_id)
    waiting = workloads.lock_corrections(uow, workload_id)
    cycle = Cycle(
        cycle_id=new_id("cyc"),
        workload_id=workload_id,
        stage=Stage.CORRECTIONS,
        needed=workload.policy.retraining.min_corrections,
    )
    seconds = workload.policy.deadlines.dataset
    if not cycles.insert(
        uow,
        cycle,
        trigger=trigger,
        alert_id=alert_id,
        policy_version=workload.policy_version,
        seconds=seconds,
    ):
        return None
    uow.emit(CheckCycleDeadline(cycle_id=cycle.cycle_id, step="dataset"), due_in_seconds=seconds)
    uow.emit(CycleOpened(cycle_id=cycle.cycle_id, workload_id=workload_id, trigger=trigger))
    uow.audit("cycle.opened", cycle.cycle_id, reason=reason, facts={"trigger": trigger})
    # Corrections that came before the cycle count as if they came now.
    counted = CorrectionRecorded(workload_id=workload_id, feedback_id="", waiting=waiting)
    row = _reload(uow, cycle.cycle_id)
    _apply(uow, row, domain.decide(row.cycle, counted))
    return _reload(uow, cycle.cycle_id)


def _apply(uow: UnitOfWork, row: CycleRow, event: Event | None) -> None:
    if event is None:
        return
    after = domain.evolve(row.cycle, event)
    if isinstance(event, Closed):
        cycles.save(uow, after)
        _close(uow, after, event)
        return
    policy = workloads.load_policy(uow, after.workload_id, row.policy_version)
    if after.stage is not row.cycle.stage:
        after = send_command(uow, after, row.workload, policy)
        _begin_step(uow, row, after, policy)
    cycles.save(uow, after)


def _begin_step(uow: UnitOfWork, row: CycleRow, after: Cycle, policy: Policy) -> None:
    step = domain.STEP_OF[after.stage]
    if step == row.step:
        return
    seconds = getattr(policy.deadlines, step)
    cycles.begin_step(uow, after.cycle_id, step, seconds)
    uow.emit(CheckCycleDeadline(cycle_id=after.cycle_id, step=step), due_in_seconds=seconds)
    uow.audit("cycle.advanced", after.cycle_id, facts={"step": step})


def _close(uow: UnitOfWork, cycle: Cycle, event: Closed) -> None:
    uow.emit(
        CycleClosed(
            cycle_id=cycle.cycle_id,
            workload_id=cycle.workload_id,
            outcome=event.outcome,
            reason=event.reason[:1000],
        )
    )
    uow.audit("cycle.closed", cycle.cycle_id, reason=event.reason, facts={"outcome": event.outcome})


def _wait_out_interval(uow: UnitOfWork, workload_id: str, policy: Policy) -> None:
    last = cycles.find_last(uow, workload_id)
    if last is None or last.closed_at is None:
        return
    passed = (uow.now - last.created_at).total_seconds()
    rest = policy.retraining.min_interval_seconds - passed
    if rest > 0:
        raise Unavailable(
            f"The last cycle began {passed:.0f} s ago; the policy's interval lasts {rest:.0f} s "
            "more.",
            code="retraining_interval",
            retry_after=rest,
        )


def _reload(uow: UnitOfWork, cycle_id: str) -> CycleRow:
    row = cycles.find_locked(uow, cycle_id)
    assert row is not None  # inserted or read in this transaction
    return row
