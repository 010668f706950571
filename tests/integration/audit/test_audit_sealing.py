"""Sealing: nothing skipped, nothing doubled, whatever commits late and whoever is killed."""

from __future__ import annotations

import os
import random
import re
import resource
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sealed_log import KEY, SIGNER, SealedLog, context
from sqlalchemy import text

from infra import database as databases
from shared.audit.checkpoint import Checkpoint
from shared.audit.note import Signer
from shared.audit.sealing import Sealer
from shared.audit.witness import Witness, notes_in
from shared.errors import Corrupt, Unavailable

_PROCESS = Path(__file__).with_name("killed_sealer.py")
_ROOT = Path(__file__).parents[3]


def _assert_whole(log: SealedLog, project: str = "a") -> None:
    """Every entry is sealed once, without a gap, in the order of the transactions."""
    leaves = log.leaves(project)
    entries = log.rows(
        "SELECT CAST(id AS text) FROM spine.audit_entries WHERE project = :p ORDER BY xid, seq",
        p=project,
    )
    assert [leaf[0] for leaf in leaves] == list(range(len(entries)))
    assert [leaf[1] for leaf in leaves] == [entry[0] for entry in entries]
    report = log.verify(project)
    assert report.fault is None
    assert report.size == len(entries)
    assert report.anchors > 0


def test_entries_are_numbered_signed_and_witnessed(log):
    log.write(3)
    log.write(2, "b")
    assert log.seal() == 5
    log.write(4)
    assert log.seal() == 4
    _assert_whole(log)
    _assert_whole(log, "b")
    assert [anchor.size for anchor in log.anchors()] == [3, 7]
    assert log.anchors()[0].origin == "perpetune.test/a"
    assert log.seal() == 0


def test_a_checkpoint_covers_at_most_256_entries(log):
    log.write_at_once(700)
    assert log.seal() == 700
    sizes = log.rows("SELECT size FROM spine.audit_checkpoints ORDER BY size")
    assert [row[0] for row in sizes] == [256, 512, 700]
    _assert_whole(log)


def test_a_long_log_is_sealed_in_several_transactions(log):
    log.write_at_once(50)
    assert log.seal(batch_rows=7) == 50
    _assert_whole(log)


def test_a_slow_transaction_holds_up_sealing_and_is_not_passed_over(log):
    with log.app.open(context("a")) as slow:
        slow.audit("thing.made", "slow")
        log.write(2)
        assert log.seal() == 0
    assert log.seal() == 3
    first = log.rows(
        "SELECT subject FROM spine.audit_entries e JOIN spine.audit_leaves l ON l.entry = e.id "
        "WHERE l.seq = 0"
    )
    assert first == [("slow",)]
    _assert_whole(log)


def test_what_is_rolled_back_leaves_no_gap(log):
    for _ in range(3):
        log.write(1)
        with pytest.raises(ZeroDivisionError), log.app.open(context("a")) as uow:
            uow.audit("thing.made", "never")
            _ = 1 / 0
    log.seal()
    _assert_whole(log)
    assert len(log.leaves()) == 3


@pytest.mark.timeout(120)
def test_64_writers_with_random_delays_and_two_sealers_leave_no_gap(database, tmp_path):
    log = SealedLog(database, tmp_path, pool=64)
    writing = threading.Event()
    writing.set()

    def write(number: int) -> int:
        chance = random.Random(number)
        committed = 0
        for _ in range(6):
            try:
                with log.app.open(context(chance.choice("abc"))) as uow:
                    for _ in range(chance.randint(1, 3)):
                        uow.audit("thing.made", f"writer_{number}")
                    time.sleep(chance.random() * 0.1)
                    uow.audit("thing.made", f"writer_{number}")
                    _ = 1 / int(chance.random() > 0.2)
                committed += 1
            except ZeroDivisionError:
                pass
        return committed

    def seal() -> int:
        sealer, sealed = log.sealer(), 0
        while writing.is_set():
            sealed += sealer.seal_all()
        return sealed

    with ThreadPoolExecutor(66) as pool:
        sealers = [pool.submit(seal) for _ in range(2)]
        writers = [pool.submit(write, number) for number in range(64)]
        assert sum(writer.result() for writer in writers) > 64 * 3
        writing.clear()
        during = sum(sealer.result() for sealer in sealers)
    assert during > 0
    log.seal()
    for project in "abc":
        _assert_whole(log, project)
    log.close()


def test_while_one_seals_another_passes_its_turn(log):
    log.write(1)
    with log.spine.open(context("")) as uow:
        uow.session.execute(text("SELECT pg_advisory_xact_lock(7316004)"))
        assert log.sealer().seal("a") is None
    assert log.sealer().seal("a") == 1


@pytest.mark.timeout(180)
def test_a_sealer_killed_at_any_statement_leaves_a_log_that_goes_on(log, database):
    """Kills at the n-th step for every n, until a round needs fewer than n steps."""
    command = [sys.executable, str(_PROCESS), database.spine, str(log.witness.path("a").parent)]
    steps = 0
    with subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        outcome = "killed"
        while outcome == "killed":
            steps += 1
            log.write(2)
            process.stdin.write(f"{steps}\n")
            outcome = process.stdout.readline().strip()
            sealed = [leaf[0] for leaf in log.leaves()]
            assert sealed == list(range(len(sealed)))
            heads = log.rows("SELECT max(size) FROM spine.audit_checkpoints")
            assert (heads[0][0] or 0) == len(sealed)
        process.stdin.close()
    assert outcome == "done"
    # Two rounds of one project, each statement and commit from both sides, and the witness.
    assert steps > 30
    log.seal()
    _assert_whole(log)


def test_a_witness_that_missed_a_checkpoint_catches_up_at_the_next_start(log):
    log.write(3)
    log.sealer().seal_all()
    assert log.witness.last("a") is None
    log.sealer().seal_all()
    assert [anchor.size for anchor in log.anchors()] == [3]


def _assert_waits_for_its_witness(log: SealedLog, sealer: Sealer) -> None:
    before = log.leaves()
    for _ in range(2):
        log.write(2)
        with pytest.raises(Unavailable, match=re.escape(str(log.witness.path("a")))) as refused:
            sealer.seal_all()
        assert refused.value.code == "witness_unavailable"
    assert log.leaves() == before


def test_nothing_is_sealed_while_the_witness_cannot_be_read(log):
    """Guarantee: a witness that cannot be read is not taken for one that is empty."""
    folder = log.witness.path("a").parent
    folder.write_text("a file where the folder belongs")
    _assert_waits_for_its_witness(log, log.sealer())
    assert log.leaves() == []
    folder.unlink()
    assert log.seal() == 4
    assert [anchor.size for anchor in log.anchors()] == [4]
    _assert_whole(log)


def test_a_full_witness_is_not_left_behind_by_more_than_one_transaction(log):
    path = log.witness.path("a")
    path.parent.mkdir()
    path.symlink_to("/dev/full")
    sealer = log.sealer()
    log.write(3)
    assert sealer.seal_all() == 3
    _assert_waits_for_its_witness(log, sealer)
    path.unlink()
    assert log.seal() == 4
    assert [anchor.size for anchor in log.anchors()] == [3, 7]
    _assert_whole(log)


def test_a_checkpoint_that_was_witnessed_in_part_is_witnessed_again(log):
    log.write(3)
    sealer = log.sealer()
    sealer.seal_all()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(Unavailable):
            sealer.seal_all()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert log.witness.path("a").stat().st_size == 100
    assert log.witness.last("a") is None
    sealer.seal_all()
    assert [anchor.size for anchor in log.anchors()] == [3]


def test_a_restored_backup_is_noticed_and_not_sealed_over(log, database, postgres, tmp_path):
    log.write(5)
    log.seal()
    backup = databases.create_database
    restored_url = log.owner.replace("/perpetune_", "/perpetune_restored_")
    _copy(log, restored_url, backup)
    log.write(4)
    log.seal()
    restored = _restored(log, database, restored_url, tmp_path)
    restored.write(6)
    with pytest.raises(Corrupt, match="restored from a backup"):
        restored.sealer().seal("a")
    assert restored.sealer().seal_all() == 0
    # An administrator with the key seals on without the witness; the witness tells.
    Sealer(restored.spine, SIGNER, Witness(tmp_path / "other")).seal_all()
    report = restored.verify()
    assert report.fault is not None
    assert (report.fault.first, report.fault.last) == (5, 8)
    restored.close()
    databases.drop_database(restored_url)


def _copy(log: SealedLog, url: str, create) -> None:
    log.close()
    create(url, template=log.owner.rpartition("/")[2])


def _restored(log: SealedLog, database, owner: str, tmp_path: Path) -> SealedLog:
    name = owner.rpartition("/")[2]

    class Restored:
        app = database.app.rpartition("/")[0] + f"/{name}"
        spine = database.spine.rpartition("/")[0] + f"/{name}"

    Restored.owner = owner
    return SealedLog(Restored, tmp_path / "witness")


@pytest.mark.parametrize(
    ("forgery", "says"),
    [
        ("UPDATE spine.audit_checkpoints SET size = size + 1", "row was changed"),
        ("UPDATE spine.audit_checkpoints SET root = edge[2]", "row was changed"),
        ("UPDATE spine.audit_checkpoints SET edge[1] = root", "row was changed"),
        ("UPDATE spine.audit_checkpoints SET note = replace(note, '3', '4')", "signature"),
        ("DELETE FROM spine.audit_checkpoints", "witness"),
        ("UPDATE spine.audit_checkpoints SET read_xid = '9000000000'", "new cluster"),
    ],
)
def test_a_forged_state_is_not_sealed_over(log, forgery, says):
    log.write(3)
    log.seal()
    log.forge(forgery)
    log.write(1)
    with pytest.raises(Corrupt, match=says):
        log.sealer().seal("a")


def test_a_log_that_is_refused_does_not_hold_up_the_others(log):
    for project in "ab":
        log.write(3, project)
    log.seal()
    log.forge("DELETE FROM spine.audit_checkpoints WHERE project = 'a'")
    for project in "ab":
        log.write(2, project)
    assert log.seal() == 2
    _assert_whole(log, "b")


def test_a_database_that_was_away_is_looked_at_anew(log):
    """Guarantee: a restored backup is reported even if nobody writes to it any more."""
    log.write(3)
    sealer = log.sealer()
    while sealer.seal_all():
        pass
    log.forge(
        "DELETE FROM spine.audit_checkpoints",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE usename = 'spine' AND datname = current_database()",
    )
    with pytest.raises(Unavailable):
        sealer.seal_all()
    sealer.seal_all()
    assert "restored from a backup" in sealer._refused["a"]


def test_another_key_does_not_go_on_with_the_log(log):
    log.write(1)
    log.seal()
    log.write(1)
    other = Sealer(log.spine, Signer("perpetune.test", bytes(32)), log.witness)
    with pytest.raises(Corrupt, match="another key"):
        other.seal("a")


def test_the_witness_holds_notes_of_the_published_form(log):
    log.write(2)
    log.seal()
    [note] = notes_in(log.witness.path("a").read_text())
    assert Checkpoint.opened(note, KEY).size == 2
    assert log.witness.path("a").stat().st_mode & 0o777 == 0o600
