"""A fine-tune moves from one Perpetune, which plays the old provider, to another one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest

from infra.local.home import Home
from infra.local.settings import LocalSettings, free_ports
from infra.local.stack import Stack
from tests.conformance import samples
from tests.conformance.samples import jsonl, rows

pytestmark = pytest.mark.slow

CASES = 4


@dataclass(frozen=True)
class Side:
    """One of the two stacks."""

    settings: LocalSettings

    @property
    def url(self) -> str:
        return f"{self.settings.gateway_url}/v1"

    @property
    def key(self) -> str:
        return Home.at(self.settings.home).secret("api_key")

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=self.url, api_key=self.key, timeout=120)


@pytest.fixture(scope="module")
def sides(tmp_path_factory) -> Iterator[tuple[Side, Side]]:
    """The old provider and the new home, each with its own servers and processes."""
    both = [_settings(tmp_path_factory.mktemp(name)) for name in ("old", "new")]
    with Stack(both[0]).running(lambda _: None), Stack(both[1]).running(lambda _: None):
        yield Side(both[0]), Side(both[1])


@pytest.fixture(scope="module")
def tuned(sides) -> str:
    """The fine-tune of the old provider."""
    given = rows(20)
    with sides[0].client() as client:
        return samples.tuned(
            client, given[:16], given[16:], epochs=2, suffix="codes"
        ).fine_tuned_model


@pytest.fixture(scope="module")
def command(sides, tuned) -> list[str]:
    return [
        *(sys.executable, "-m", "services.cli.main", "import", "openai"),
        *("--model", tuned, "--from-url", sides[0].url, "--name", "codes", "--json"),
        *("--cases", str(CASES), "--epochs", "2", "--max-answer-tokens", "16"),
        *("--price-input", "3", "--price-output", "6", "--budget", "1", "--machine-price", "0.5"),
    ]


@pytest.fixture(scope="module")
def environment(sides) -> dict[str, str]:
    old, new = sides
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PERPETUNE_")}
    return {
        **kept,
        **{name: str(port) for name, port in new.settings.ports().items()},
        "PERPETUNE_HOME": str(new.settings.home),
        "OPENAI_API_KEY": old.key,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }


@pytest.fixture(scope="module")
def folder(sides) -> Path:
    return sides[1].settings.home / "imports" / "codes"


@pytest.fixture(scope="module")
def facts(sides, command, environment, folder) -> dict[str, Any]:
    """Of an import whose command was killed among the answers, in training and in evaluation."""
    second = '"kind": "golden", "case": 1'
    _killed_when(command, environment, lambda: second in _text(folder / "journal.jsonl"))
    _killed_when(command, environment, lambda: _jobs(sides[1]))
    _killed_when(command, environment, lambda: _files(sides[1], "evals"))
    finished = _run(command, environment)
    assert finished.returncode == 0, finished.stderr[-4000:]
    assert sides[0].key not in finished.stderr
    return json.loads(finished.stdout)


def test_nothing_was_done_twice_but_the_question_under_way(sides, facts, folder):
    entries = [json.loads(line) for line in _text(folder / "journal.jsonl").splitlines()]
    assert [e["case"] for e in entries if e["kind"] == "golden"] == list(range(CASES))
    assert CASES <= sum(e["kind"] == "asking" for e in entries) <= CASES + 1
    (job,) = _jobs(sides[1])
    assert (job.id, job.fine_tuned_model) == (facts["job"], facts["model"])
    assert len(_files(sides[1], "evals")) == 1
    # Rows to train on, and the two of the validation file that are no cases.
    assert sorted(file.bytes for file in _files(sides[1], "fine-tune")) == sorted(
        (folder / f"{part}.jsonl").stat().st_size for part in ("training", "validation")
    )
    assert len(_text(folder / "validation.jsonl").splitlines()) == 2


def test_report_compares_both_models_on_every_case(tuned, facts, folder, sides):
    assert facts["old_model"] == tuned
    assert facts["has_references"]
    # Four cases show nothing to the margin, however alike the answers are.
    assert not facts["decision"]["passed"]
    evaluation = facts["evaluation"]
    assert evaluation["cases"] == evaluation["metrics"]["agreement"]["cases"] == CASES
    assert evaluation["metrics"]["baseline"]["latency"]["mean_ms"] > 0
    assert evaluation["metrics"]["candidate"]["target_perplexity"]["estimate"] >= 1
    assert facts["differing"] == len(facts["differences"])
    page = _text(folder / "report.html")
    assert tuned in page
    assert "Verdict: not yet" in page
    assert "## Old and new" in _text(folder / "report.md")
    assert sides[0].key not in page + _text(folder / "journal.jsonl")


def test_cost_is_told_before_and_after_and_stayed_in_the_budget(facts):
    cost = facts["cost"]
    assert 0 < cost["goldens"] <= 1
    assert cost["before"] > 0
    assert cost["after"] > 0
    assert cost["training"] > 0


def test_commands_of_the_report_give_the_old_id_a_home(sides, tuned, facts, environment):
    commands = [line for line in facts["commands"] if not line.startswith("#")]
    for command in commands[:3]:
        done = _run(["bash", "-c", command], environment)
        assert done.returncode == 0, done.stderr
    assert facts["model"] in done.stdout
    with sides[1].client() as client:
        assert tuned in {model.id for model in client.models.list()}


def test_repeated_command_asks_nothing_and_says_the_same(command, environment, facts, folder):
    before = (folder / "journal.jsonl").read_bytes()
    again = json.loads(_run(command, environment).stdout)
    assert (folder / "journal.jsonl").read_bytes() == before
    assert again["evaluation"] == facts["evaluation"]
    assert again["decision"] == facts["decision"]


def test_logged_answers_do_as_well_without_the_old_provider(sides, facts, environment, tmp_path):
    given = rows(20)
    training, answers = tmp_path / "training.jsonl", tmp_path / "answers.jsonl"
    training.write_bytes(jsonl(given[:16]))
    answers.write_bytes(jsonl(_logged(row) for row in given[16:]))
    command = [
        *(sys.executable, "-m", "services.cli.main", "import", "jsonl", "--json"),
        *("--training-file", str(training), "--answers", str(answers), "--epochs", "1"),
    ]
    finished = _run(command, environment | {"OPENAI_API_KEY": ""})
    assert finished.returncode == 0, finished.stderr[-4000:]
    found = json.loads(finished.stdout)
    assert found["old_model"] == "ft:gpt-4o-mini:acme::abc"
    assert found["service"] is None
    assert not found["has_references"]
    assert found["evaluation"]["metrics"]["agreement"]["cases"] == 4
    # Recorded answers are right by definition, so the agreement is the exact match.
    metrics = found["evaluation"]["metrics"]
    assert metrics["agreement"]["exact"] == metrics["candidate"]["exact_match"]
    assert found["cost"]["goldens"] is None
    assert "Parity report: answers" in _text(sides[1].settings.home / "imports/answers/report.md")


def _logged(row: dict[str, Any]) -> dict[str, Any]:
    """A request beside what was answered to it."""
    *asked, answer = row["messages"]
    return {
        "request": {"messages": asked},
        "response": {
            "model": "ft:gpt-4o-mini:acme::abc",
            "choices": [{"index": 0, "message": answer, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 12, "completion_tokens": 4, "total_tokens": 16},
        },
    }


def _settings(home: Path) -> LocalSettings:
    return LocalSettings(home=home / "home", **free_ports())


def _killed_when(command, environment, is_time) -> None:
    """Run the command and kill it as soon as *is_time*."""
    running = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 300
    while not is_time():
        assert running.poll() is None, running.stderr.read().decode()[-4000:]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.communicate()


def _text(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


def _jobs(side: Side) -> list[object]:
    with side.client() as client:
        jobs = list(client.fine_tuning.jobs.list())
    return [job for job in jobs if job.metadata["perpetune_import"].startswith("codes-")]


def _files(side: Side, purpose: str) -> list[object]:
    with side.client() as client:
        files = list(client.files.list(purpose=purpose))
    return [file for file in files if file.filename.startswith("codes-")]


def _run(command, environment) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
