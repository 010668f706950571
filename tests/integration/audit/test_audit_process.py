"""The delivery process seals by itself, and does everything else without a key too."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sealed_log import SEED, SealedLog, context

from shared.contracts.feedback import ResolveOutcome

_ROOT = Path(__file__).parents[3]


@pytest.fixture
def process(database, bus_url, tmp_path):
    """Starts the delivery process with further settings; its output is in `log`."""

    @contextlib.contextmanager
    def running(**settings):
        environment = {
            "DATABASE_APP_URL": database.app,
            "DATABASE_SPINE_URL": database.spine,
            "BUS_URL": bus_url,
            "HOME": tmp_path,
            "SECRETS_DIR": tmp_path / "secrets",
            "AUDIT_NAME": "perpetune.test",
            "SEAL_MILLISECONDS": 100,
            **settings,
        }
        ours = {f"PERPETUNE_{name}": str(value) for name, value in environment.items()}
        with (tmp_path / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "services.delivery"],
                cwd=_ROOT,
                env={**os.environ, "PYTHONPATH": str(_ROOT), **ours},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    return running


@pytest.fixture
def log(database, tmp_path):
    made = SealedLog(database, tmp_path / "witness")
    yield made
    made.close()


def _until(condition, seconds=40.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


def test_the_process_seals_and_witnesses_and_is_verified(log, process):
    log.write(3)
    with process(SECRET_AUDIT_KEY=SEED.hex()) as running:
        _until(lambda: len(log.leaves()) == 3)
        log.write(2)
        _until(lambda: (log.witness.last("a") or "").split("\n")[1:2] == ["5"])
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=20) == 0
    report = log.verify()
    assert (report.fault, report.size) == (None, 5)


@pytest.mark.parametrize("secrets", [{}, {"SECRET_AUDIT_KEY": "not-a-key"}])
def test_without_a_key_the_other_chores_go_on_and_the_log_says_why(log, process, tmp_path, secrets):
    log.write(1)
    with process(**secrets) as running:
        _until(lambda: "audit_not_sealed" in (tmp_path / "log").read_text())
        assert "delivery_started" in (tmp_path / "log").read_text()
        time.sleep(0.5)
        assert running.poll() is None
    assert (tmp_path / "log").read_text().count("audit_not_sealed") == 1
    assert log.leaves() == []


def test_a_witness_that_cannot_be_written_stops_sealing_and_nothing_else(log, process, tmp_path):
    occupied = log.witness.path("a").parent
    occupied.write_text("a file where the folder belongs")
    log.write(3)
    with process(SECRET_AUDIT_KEY=SEED.hex(), AUDIT_WITNESS=occupied) as running:
        _until(lambda: "cannot be read or written" in (tmp_path / "log").read_text())
        log.write(2)
        with log.app.open(context("a")) as uow:
            uow.emit(ResolveOutcome(feedback_id="fb_1"))
        _until(lambda: log.rows("SELECT FROM spine.deliveries WHERE rung_at IS NOT NULL"))
        assert running.poll() is None
        assert log.leaves() == []
        occupied.unlink()
        _until(lambda: (log.witness.last("a") or "").split("\n")[1:2] == ["5"])
    assert (tmp_path / "log").read_text().count("cannot be read or written") == 1
    assert [anchor.size for anchor in log.anchors()] == [5]
    report = log.verify()
    assert (report.fault, report.size) == (None, 5)
