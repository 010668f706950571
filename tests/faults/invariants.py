"""I1 to I8, and the folds: what must hold after every fault. Each returns what contradicts it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from functools import partial

from services.drift import domain as drift
from services.drift import service as drift_service
from services.drift.repository import evidence, monitors
from services.drift.repository.monitors import MonitorRow
from services.governance import repository as governance
from shared.audit.checkpoint import Checkpoint
from shared.audit.entries import content
from shared.audit.export import checkpoint_line, entry_line, header_line
from shared.audit.note import Signer
from shared.audit.verification import verify_export
from shared.audit.witness import Witness, notes_in
from shared.context import Context
from shared.cursor import Cursor
from shared.db import UnitOfWork
from shared.ids import Project
from shared.statistics.codec import from_json, to_json
from tests.faults.holder import STEPS
from tests.faults.load import CANARY, Load
from tests.faults.stack import Stack
from tests.faults.watching import until

AUDIT_NAME = "perpetune.local"
_ALL = 10_000_000
# Tables with a row-level policy that the load writes to.
_SHARED_TABLES = (
    "spine.deliveries",
    "spine.events",
    "spine.audit_entries",
    "spine.leases",
    "workloads.workloads",
    "releases.releases",
)


def violations(stack: Stack, load: Load) -> list[str]:
    """All contradictions, in order of the invariants; I6 is measured by the trial."""
    effects = {number: len(times) for number, times in load.effects().items()}
    return [
        *every_accepted_command_ended(stack, load, effects),
        *corrections_are_heard(stack, load),
        *nothing_healthy_is_buried(stack, load),
        *one_effect_outside(stack, load),
        *legal_histories(stack, load),
        *audit_verifies(stack, load, effects),
        *projects_apart(stack, load),
        *few_calls_outside(stack, load),
        *nothing_private_in_logs(stack),
        *evidence_folds_again(stack, load),
    ]


def owed(stack: Stack, load: Load) -> set[str]:
    """Numbers of what was accepted, and of what was committed without its sender being told."""
    rows = stack.rows(
        "SELECT subject FROM spine.audit_entries "
        "WHERE action = 'probe.accepted' AND project = ANY(%s)",
        list(load.projects),
    )
    return set(load.accepted) | (load.unknown & {number for (number,) in rows})


def every_accepted_command_ended(
    stack: Stack, load: Load, effects: dict[str, int]
) -> Iterable[str]:
    """I1: done exactly once or a dead letter; and what was refused never happened."""
    dead = load.dead()
    if lost := owed(stack, load) - set(effects) - dead:
        yield f"I1: {len(lost)} accepted commands lost, for example {sorted(lost)[:3]}"
    if doubled := [number for number, count in effects.items() if count > 1]:
        yield f"I1: {len(doubled)} commands took effect twice, for example {doubled[:3]}"
    api = sum(command.kind == "api" for command in load.accepted.values())
    outcomes = load.count_outcomes()
    if not api <= outcomes <= api + len(load.unknown):
        yield f"I1: {outcomes} outcomes of {api} accepted labels"
    if both := dead & set(effects):
        yield f"I1: {len(both)} commands are done and dead letters: {sorted(both)[:3]}"
    if ghosts := load.refused & set(effects):
        yield f"I1: {len(ghosts)} commands were refused and happened: {sorted(ghosts)[:3]}"


def corrections_are_heard(stack: Stack, load: Load) -> Iterable[str]:
    """I1: what the API accepted went on: each workload has heard of all its corrections."""
    deaf = stack.rows(
        "SELECT workload_id, corrections_waiting, sent FROM workloads.workloads JOIN "
        "(SELECT workload_id, count(*) AS sent FROM feedback.entries "
        "WHERE correction IS NOT NULL GROUP BY workload_id) AS entries USING (workload_id) "
        "WHERE project = ANY(%s) AND corrections_waiting <> sent",
        list(load.projects),
    )
    for workload, heard, sent in deaf:
        yield f"I1: {workload} has heard of {heard} of {sent} corrections"


def nothing_healthy_is_buried(stack: Stack, load: Load) -> Iterable[str]:
    """I1: nothing that the load caused is a dead letter; what deserves it has other projects."""
    buried = stack.rows(
        "SELECT task, reason FROM spine.dead_letters WHERE project = ANY(%s)", list(load.projects)
    )
    if buried:
        yield f"I1: {len(buried)} dead letters, for example {buried[0]}"


def one_effect_outside(stack: Stack, load: Load) -> Iterable[str]:
    """I2: no order that nobody asked for; what is done has its order."""
    ordered = set(stack.shop.calls)
    if wanton := load.refused & ordered:
        yield f"I2: {len(wanton)} orders of refused commands: {sorted(wanton)[:3]}"
    done = {
        row[0]
        for row in stack.rows(
            "SELECT number FROM faults.effects WHERE kind = 'phased' AND project = ANY(%s)",
            list(load.projects),
        )
    }
    if missing := done - ordered:
        yield f"I2: {len(missing)} commands are done without their order: {sorted(missing)[:3]}"


def legal_histories(stack: Stack, load: Load) -> Iterable[str]:
    """I3: accepted before done; a job's steps in order, none twice; one promotion a release."""
    projects = list(load.projects)
    early = stack.rows(
        "SELECT done.subject FROM spine.audit_entries done JOIN spine.audit_entries accepted "
        "ON accepted.subject = done.subject AND accepted.action = 'probe.accepted' "
        "WHERE done.action = 'probe.done' AND done.seq < accepted.seq AND done.project = ANY(%s)",
        projects,
    )
    if early:
        yield f"I3: {len(early)} commands were done before they were accepted"
    steps = stack.rows(
        "SELECT number, array_agg(step ORDER BY seq) FROM faults.steps GROUP BY number"
    )
    if broken := [number for number, made in steps if made != list(range(len(made)))]:
        yield f"I3: {len(broken)} jobs repeated, left out or went back a step: {broken[:3]}"
    done = {number for number, command in load.accepted.items() if command.kind == "job"}
    if short := [number for number, made in steps if number in done and len(made) != STEPS]:
        yield f"I3: {len(short)} jobs are done without all their steps: {short[:3]}"
    twice = stack.rows(
        "SELECT release_id FROM releases.decisions WHERE project = ANY(%s) "
        "AND verdict = 'promoted' GROUP BY release_id HAVING count(*) > 1",
        projects,
    )
    if twice:
        yield f"I3: {len(twice)} releases were promoted twice"


def audit_verifies(stack: Stack, load: Load, effects: dict[str, int]) -> Iterable[str]:
    """I4: the sealed log verifies against key and witness, with one entry per transition."""
    signer = Signer(AUDIT_NAME, bytes.fromhex(stack.home.secret("audit_key")))
    witness = Witness(stack.home.root / "witness")
    for project in load.projects:
        until(partial(is_sealed, stack, project), what=f"the log of {project} is sealed")
        until(witness.path(project).exists, what=f"the witness knows the log of {project}")
        notes = notes_in(witness.path(project).read_text())
        anchors = [Checkpoint.opened(note, signer.verifier) for note in notes]
        report = verify_export(export_of(stack, project), signer.verifier, anchors)
        if report.fault:
            yield f"I4: the audit log of {project} does not verify: {report.fault}"
    entries = Counter(
        row[0]
        for row in stack.rows(
            "SELECT subject FROM spine.audit_entries "
            "WHERE action = 'probe.done' AND project = ANY(%s)",
            list(load.projects),
        )
    )
    api = {number for number, command in load.accepted.items() if command.kind == "api"}
    ours = owed(stack, load) - api
    if wrong := [n for n in ours if entries[n] != effects.get(n, 0)]:
        yield f"I4: {len(wrong)} effects have not one audit entry each: {wrong[:3]}"


def is_sealed(stack: Stack, project: str) -> bool:
    ((left,),) = stack.rows(
        "SELECT (SELECT count(*) FROM spine.audit_entries WHERE project = %s) - "
        "(SELECT count(*) FROM spine.audit_leaves WHERE project = %s)",
        project,
        project,
    )
    return left == 0


def export_of(stack: Stack, project: str) -> Iterable[bytes]:
    with stack.app.open(Context.root(Project(project), "faults")) as uow:
        entries = governance.list_sealed(uow.session, after=-1, limit=_ALL)
        signed = governance.list_checkpoints(uow.session, after=None, order="asc", limit=_ALL)
    notes = {row.size: row.note for row in signed}
    yield header_line(f"{AUDIT_NAME}/{project}")
    for row in entries:
        yield entry_line(row.seq, row.leaf, content(row))
        if row.seq + 1 in notes:
            yield checkpoint_line(notes[row.seq + 1])


def projects_apart(stack: Stack, load: Load) -> Iterable[str]:
    """I5: every effect acted for its command's project, and each project sees its own rows."""
    acted = dict(stack.rows("SELECT number, project FROM faults.effects"))
    wrong = [n for n, c in load.accepted.items() if n in acted and acted[n] != c.project]
    if wrong:
        yield f"I5: {len(wrong)} commands acted for another project: {wrong[:3]}"
    for project in load.projects:
        with stack.app.open(Context.root(Project(project), "faults")) as uow:
            for table in _SHARED_TABLES:
                seen = uow.session.connection().exec_driver_sql(
                    f"SELECT DISTINCT project FROM {table}"
                )
                if strangers := {row[0] for row in seen} - {project}:
                    yield f"I5: {project} sees rows of {strangers} in {table}"


def few_calls_outside(stack: Stack, load: Load) -> Iterable[str]:
    """I7: calls at most 1.1 times the orders, and one more for each attempt that was cut off."""
    orders = [n for n, c in load.accepted.items() if c.kind == "phased"]
    calls = sum(stack.shop.calls[number] for number in orders)
    if orders and calls > 1.1 * len(orders) + load.cut_off:
        yield f"I7: {calls} calls for {len(orders)} orders, {load.cut_off} attempts cut off"


def nothing_private_in_logs(stack: Stack) -> Iterable[str]:
    """I8: no secret of ours, and nothing that a customer wrote, in any log or event."""
    logs = stack.logs()
    events = "".join(row[0] for row in stack.rows("SELECT envelope::text FROM spine.events"))
    private = {
        **{
            f"{file.name}, value {number}": value
            for file in stack.home.secrets.iterdir()
            # That of the providers names the files of their keys.
            if file.suffix != ".toml"
            for number, value in enumerate(file.read_text().split(), start=1)
        },
        **{f"key of {project}": key for project, key in stack._keys.items()},
        "text of a customer": CANARY,
    }
    for name, value in private.items():
        if value in logs or value in events:
            yield f"I8: the {name} is in a log or an event"


def evidence_folds_again(stack: Stack, load: Load) -> Iterable[str]:
    """Every monitor's state, folded again from zero over its feed, has the same bits."""
    for project in load.projects if load.rates.api else ():
        with stack.app.open(Context.root(Project(project), "faults")) as uow:
            watching = monitors.list_newest(uow, None, None, _ALL)
            if not watching:
                yield f"evidence: nothing watches the release of {project}"
            for monitor in watching:
                if difference := _difference(uow, monitor.monitor_id):
                    yield f"evidence folds again: {monitor.metric} of {project} {difference}"


def _difference(uow: UnitOfWork, monitor_id: str) -> str:
    """What is wrong with a monitor after it has folded all there is; empty when nothing is."""
    drift_service.fold_monitor(uow, monitor_id)
    monitor = monitors.find_locked(uow, monitor_id)
    assert monitor is not None
    stored = json.dumps(monitor.detector, sort_keys=True)
    again = json.dumps(to_json(_folded_from_zero(uow, monitor)), sort_keys=True)
    return "" if stored == again else f"is {stored}, folded again {again}"


def _folded_from_zero(uow: UnitOfWork, monitor: MonitorRow) -> drift.MonitorState:
    policy = from_json(drift.MonitorState, monitor.detector).policy
    state, cursor = drift.begin(monitor.metric, policy), Cursor.parse(monitor.start)
    while rows := evidence.read(uow, monitor, cursor):
        for observation, _ in rows:
            state = drift.fold(state, observation)
            if drift.decide(state) is not None:
                return state
        cursor = rows[-1][1]
    return state
