"""The whole loop as a user runs it: one command, real training, real serving, then the evidence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local.settings import free_ports

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(1000)]


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def environment(home: Path) -> dict[str, str]:
    ports = {f"PERPETUNE_{name}".upper(): str(port) for name, port in free_ports().items()}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PERPETUNE_")}
    return {**kept, **ports, "PERPETUNE_HOME": str(home)}


@pytest.fixture(scope="module")
def demonstration(environment) -> dict[str, object]:
    """The summary of a shorter demonstration: fewer rows to train on, otherwise the same."""
    ended = subprocess.run(
        [sys.executable, "-m", "services.cli.main", "demo", "--exit", "--json", "--rows", "96"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=960,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    return json.loads(ended.stdout)


@pytest.fixture(scope="module")
def steps(demonstration) -> dict[int, dict[str, object]]:
    return {step["number"]: step for step in demonstration["steps"]}


def test_all_eight_steps_took_place_within_the_budget_of_requests(demonstration, steps):
    assert sorted(steps) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert all(step["skipped"] is None for step in steps.values())
    assert demonstration["requests"] <= 250


def test_tuning_taught_what_the_base_does_not_know(steps):
    assert steps[3]["accuracy"]["base"] == 0.0
    assert steps[3]["accuracy"]["tuned"] >= 0.8


def test_the_changed_world_was_noticed_and_learned(steps):
    assert steps[6]["facts"]["requests_until_alert"] <= 60
    assert steps[7]["accuracy"]["after_changed"] > steps[6]["accuracy"]["live_changed"]
    assert steps[7]["accuracy"]["after_changed"] >= 0.6


def test_both_canaries_stopped_after_few_outcomes(steps):
    for number in (4, 8):
        assert 1 <= steps[number]["facts"]["canary_outcomes"] <= 40
    assert steps[8]["accuracy"]["canary"] < steps[8]["accuracy"]["live"]


def test_nothing_of_the_stack_outlives_the_command(demonstration, home):
    del demonstration
    found = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    assert str(home) not in found.stdout
