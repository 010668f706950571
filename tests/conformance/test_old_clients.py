"""Check 67: older clients."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance.samples import BASE

pytestmark = pytest.mark.slow

CLIENTS = Path(__file__).with_name("clients")


@pytest.mark.parametrize("major", [1, 2])
def test_check_67_older_clients_work(live, tmp_path: Path, major: int):
    """The newest clients 1.x and 2.x do what a team does every day."""
    requirements = CLIENTS / f"openai-{major}.txt"
    subprocess.run([sys.executable, "-m", "venv", tmp_path], check=True, timeout=120)
    python = tmp_path / "bin" / "python"
    installed = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", requirements],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if installed.returncode:
        pytest.skip(f"openai {major}.x cannot be installed: {installed.stderr.strip()[-200:]}")
    done = subprocess.run(
        [python, CLIENTS / "smoke.py", live.url, live.key, BASE],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
