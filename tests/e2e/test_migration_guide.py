"""Every command of the migration guide, in its order, with a Perpetune that plays OpenAI."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import openai
import pytest

from infra.local.home import Home
from infra.local.settings import LocalSettings, free_ports
from infra.local.stack import Stack
from tests.conformance.samples import jsonl, tuned
from tests.e2e.guide import Reader, copy_checkout, read_blocks
from tests.e2e.tickets import tickets

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(900)]

GUIDE = Path(__file__).parents[2] / "docs" / "migrate-from-openai.md"
_BLOCK_SECONDS = 400


@dataclass(frozen=True)
class OldAccount:
    """
    An account that is to be left.

    Attributes:
        url: Of its API.
        model: Its fine-tune.
    """

    url: str
    key: str
    model: str


@pytest.fixture(scope="module")
def old_account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OldAccount]:
    """A stack of its own, with a model that sorts tickets."""
    settings = LocalSettings(home=tmp_path_factory.mktemp("old") / "home", **free_ports())
    with Stack(settings).running(lambda _: None):
        key = Home.at(settings.home).secret("api_key")
        url = f"{settings.gateway_url}/v1"
        with openai.OpenAI(base_url=url, api_key=key, timeout=120) as client:
            given = tickets()
            job = tuned(client, given[:42], given[42:], epochs=2, suffix="tickets")
            assert job.fine_tuned_model
            yield OldAccount(url, key, job.fine_tuned_model)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone, with the environment that runs this test as the one that `make install` makes."""
    folder = tmp_path_factory.mktemp("clone")
    copy_checkout(folder)
    (folder / ".venv").symlink_to(sys.prefix)
    # Of a copy, make would take these for newer than the environment that was made of them.
    for name in ("requirements.txt", "requirements-torch.txt", "pyproject.toml"):
        os.utime(folder / name, (0, 0))
    return folder


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    return free_ports()


@pytest.fixture(scope="module")
def reader(checkout: Path, ports: dict[str, int], old_account: OldAccount) -> Reader:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PERPETUNE_", "OPENAI_", "MAKE"))
    }
    own = {f"PERPETUNE_{name}".upper(): str(port) for name, port in ports.items()}
    # Where OpenAI is for this reader.
    own["OPENAI_BASE_URL"] = old_account.url
    return Reader(checkout, kept | own, checkout / "reader.log")


def test_every_command_of_the_guide_does_what_it_says(
    reader: Reader, checkout: Path, ports: dict[str, int], old_account: OldAccount
) -> None:
    mine = _mine(checkout, old_account)
    printed: list[str] = []
    with reader:
        for block in read_blocks(GUIDE):
            text = block.text.replace(":8700", f":{ports['port']}")
            if block.mark == "yours":
                text = "".join(
                    f"export {name}={shlex.quote(mine.pop(name))}\n" for name in block.assigned
                )
            printed.append(reader.do(block, text, seconds=_BLOCK_SECONDS))
    assert not mine
    facts = json.loads((checkout / "tickets.json").read_text())
    agreement = facts["evaluation"]["metrics"]["agreement"]
    assert agreement["exact"]["estimate"] >= 0.8, agreement
    everything = "\n".join(printed)
    for seen in ("ticket-sorter", old_account.model, facts["model"], "2027-01-14", "ftjob-"):
        assert seen in everything
    assert (checkout / ".perpetune" / "imports" / "from-logs" / "report.html").is_file()


def _mine(folder: Path, old: OldAccount) -> dict[str, str]:
    """What a reader of the guide has: an account, and files of an earlier one."""
    training, answers = folder / "mine.jsonl", folder / "logged.jsonl"
    rows = tickets()
    training.write_bytes(jsonl(rows[:42]))
    answers.write_bytes(jsonl(rows[42:]))
    return {
        "OPENAI_API_KEY": old.key,
        "OLD": old.model,
        "PRICES": "--price-input 0.30 --price-output 1.20",
        "REASON": "The tickets of a test.",
        "TRAINING": training.name,
        "ANSWERS": answers.name,
    }
