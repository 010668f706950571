"""F-33: the database put back to an older backup while everything else goes on."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time

from shared.audit.note import Signer
from shared.audit.witness import Witness
from shared.context import Context
from shared.ids import Project, uuid7
from tests.faults.invariants import AUDIT_NAME, export_of, is_sealed
from tests.faults.layout import SEAL_MILLISECONDS
from tests.faults.stack import ROOT
from tests.faults.trial import Bound
from tests.faults.watching import until

FAULT = "F-33"
# Accepted before the backup and unfinished in it.
COMMANDS, ORDERS = 20, 3


def test_a_restored_backup_is_noticed(stack, trial, tmp_path):
    """The database as it was at an instant t put in the place of the one that went on.

    Guarantee: the log that was signed beyond t is not extended, verification against the witness
    names where it ends; other logs are sealed on, and what was accepted before t is done once.
    """
    period, again = SEAL_MILLISECONDS / 1000, stack.settings.ring_again_seconds
    bound = Bound(
        max(period, 2 * again) + stack.settings.database_connect_seconds + 3,
        f"connecting again {stack.settings.database_connect_seconds} s, what was rung is rung "
        f"again, twice {again} s, the sealer's next round, {period} s, and 3 s for the machine",
    )
    with trial.load() as load:
        trial.pause(1, 2)
    load.await_quiet(seconds=60)
    until(lambda: are_sealed(stack, load.projects), what="all is sealed")
    for number in trial.rounds(3):
        project = f"{load.projects[0]}-fork-{number}"
        before = append(stack, project, trial.chance.randint(1, 20))
        until(lambda: witnessed(stack, project) == before, what="the witness knows the log")  # noqa: B023
        trial.expect(verify(stack, project, tmp_path / "export")["ok"], "the log was not sound")
        trial.begins()
        with frozen_workers(stack):
            send_more(load, trial)
            until(lambda: are_sealed(stack, load.projects), what="what was accepted is sealed")
            with backup(stack, tmp_path / str(number)) as restore:
                signed = append(stack, project, trial.chance.randint(1, 20))
                until(lambda: witnessed(stack, project) == signed, what="the witness is ahead")  # noqa: B023
                restore()
        trial.recovered(load, bound)
        back = trial.faults[-1][1]
        until(lambda: is_refused(stack, project), what="sealing stops")  # noqa: B023
        trial.recoveries.append(time.time() - back)
        verdict = verify(stack, project, tmp_path / "export")
        trial.expect(not verdict["ok"], "verification against the witness found nothing")
        ends = (verdict["fault"] or {}).get("first")
        trial.expect(ends == before, f"verification names {ends} as the end of {before} entries")
        append(stack, project, 1)
        append(stack, load.projects[0], 1)
        until(lambda: is_sealed(stack, load.projects[0]), what="other logs are sealed")
        trial.expect(not is_sealed(stack, project), "the forked log was extended")
        trial.note(
            f"{before} entries in the backup, signed up to {signed}, then restored: "
            f"{verdict['fault']['problem']}"
        )
    trial.conclude(load, bound)


@contextlib.contextmanager
def frozen_workers(stack):
    """So that what is sent is unfinished when the database is copied, and when it is put back."""
    with contextlib.ExitStack() as ice:
        for name in stack.names("worker"):
            ice.enter_context(stack.frozen(name))
        yield


def send_more(load, trial):
    """Commands that the backup has as accepted and not done."""
    load.burst(trial.chance, COMMANDS)
    for _ in range(ORDERS):
        load.send_phased(trial.chance, str(uuid7()), load.projects[0])


def are_sealed(stack, projects):
    return all(is_sealed(stack, project) for project in projects)


def append(stack, project, count):
    """Entries of one log, as soon as the database takes them; how many it has then."""

    def appended():
        with stack.app.open(Context.root(Project(project), "faults")) as uow:
            for _ in range(count):
                uow.audit("thing.made", "thing")
        return True

    until(appended, what="the database takes entries")
    ((entries,),) = stack.rows(
        "SELECT count(*) FROM spine.audit_entries WHERE project = %s", project
    )
    return entries


def witnessed(stack, project):
    """How many entries the newest checkpoint of the witness has; 0 without one."""
    note = Witness(stack.home.root / "witness").last(project)
    return int(note.splitlines()[1]) if note else 0


@contextlib.contextmanager
def backup(stack, folder):
    """A cold copy of the database as it is now, and how to put it in place; it runs meanwhile."""
    server, data = stack.postgres, stack.postgres.log.parent / "data"
    _copy_while_down(server, data, folder)
    stack.restart_postgres(down_seconds=0)

    def restore():
        server.kill()
        time.sleep(0.5)
        shutil.rmtree(data)
        subprocess.run(["cp", "-a", folder, data], check=True)
        stack.restart_postgres(down_seconds=0)

    try:
        yield restore
    finally:
        shutil.rmtree(folder)


def _copy_while_down(server, data, folder):
    server.kill()
    time.sleep(0.5)  # its backends notice
    subprocess.run(["cp", "-a", data, folder], check=True)


def is_refused(stack, project):
    """Whether the sealer has said that the log was restored or rewritten."""
    return any(
        "audit_not_sealed" in line and f'"{project}"' in line
        for name in stack.names("delivery")
        for line in stack.log(name).splitlines()
    )


def verify(stack, project, file):
    """What `perpetune audit verify` says of the log against the witness."""
    file.write_bytes(b"".join(line + b"\n" for line in export_of(stack, project)))
    signer = Signer(AUDIT_NAME, bytes.fromhex(stack.home.secret("audit_key")))
    witness = Witness(stack.home.root / "witness").path(project)
    command = ("audit", "verify", str(file), "--key", str(signer.verifier))
    done = subprocess.run(
        [sys.executable, "-m", "services.cli.main", *command, "--checkpoint", witness, "--json"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout)
