"""A live local stack for the unmodified `openai` client, and the report of what it found.

CONFORMANCE=full runs everything; otherwise what is slow is left out: what trains or asks a model,
and what takes two stacks.
CONFORMANCE_REPORT names the file of the report.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import openai
import pytest

from infra.local import processes
from infra.local.home import Home
from infra.local.settings import LocalSettings, free_port, free_ports
from infra.local.stack import Stack
from shared.db import Units, make_engine
from shared.rotation import RotatingSecret
from shared.settings import CoreSettings
from shared.testing.receiver import Receiver, receiving
from tests.conformance import report, samples
from tests.conformance.checks import number_of
from tests.conformance.report import Outcome
from tests.conformance.samples import rows
from tests.keys import make_key

OUTCOMES = pytest.StashKey[list[Outcome]]()


def is_full() -> bool:
    return os.environ.get("CONFORMANCE") == "full"


def pytest_configure(config: pytest.Config) -> None:
    config.stash[OUTCOMES] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    ours = [item for item in items if item.path.is_relative_to(here)]
    for item in ours:
        item.add_marker(pytest.mark.alone)
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(900))
    if is_full():
        return
    left_out = [item for item in ours if item.get_closest_marker("slow")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    outcome = yield
    number = number_of(getattr(item, "originalname", None) or item.name)
    if number is not None and (call.when == "call" or not outcome.passed):
        item.config.stash[OUTCOMES].append(Outcome.of(item, number, outcome))
    return outcome


def pytest_sessionfinish(session: pytest.Session) -> None:
    target = os.environ.get("CONFORMANCE_REPORT")
    if target:
        Path(target).write_text(report.render(session.config.stash[OUTCOMES]))


@dataclass(frozen=True)
class Live:
    """
    The stack that all checks share.

    Attributes:
        url: Of the gateway.
        key: Of the project `default`.
    """

    stack: Stack
    url: str
    key: str

    def client(self, key: str | None = None, *, strict: bool = False) -> openai.OpenAI:
        """The unmodified client."""
        return openai.OpenAI(
            base_url=f"{self.url}/v1",
            api_key=key or self.key,
            timeout=120,
            _strict_response_validation=strict,
        )

    def key_of(self, project: str) -> str:
        """A key of another project, with every scope."""
        url = processes.environment(self.stack.settings, self.stack.home)[
            "PERPETUNE_DATABASE_APP_URL"
        ]
        pepper = RotatingSecret.at(self.stack.home.secrets / "api_key_pepper").values.current
        return make_key(Units(make_engine(url, CoreSettings())), project, pepper)


@pytest.fixture(scope="session")
def receiver() -> Iterator[Receiver]:
    """Where webhooks may go, though it is on this machine."""
    with receiving() as made:
        yield made


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[Live]:
    settings = LocalSettings(
        home=tmp_path_factory.mktemp("conformance") / "home",
        **free_ports(),
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PERPETUNE_WEBHOOK_HOSTS", receiver.host)
        with Stack(settings).running(lambda _: None) as stack:
            key = Home.at(settings.home).secret("api_key")
            yield Live(stack, settings.gateway_url, key)


@pytest.fixture(scope="session")
def narrow(live: Live) -> Iterator[str]:
    """URL of a second gateway: four answers at once, and uploads in parts within a second."""
    port = free_port()
    own = {
        "PERPETUNE_PORT": str(port),
        "PERPETUNE_INFERENCE_MAX_RUNNING": "4",
        "PERPETUNE_INGESTION_UPLOAD_SECONDS": "1",
    }
    environment = processes.environment(live.stack.settings, live.stack.home)
    gateway = subprocess.Popen(
        [sys.executable, "-m", "services.gateway"],
        env=os.environ | environment | own,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 60
    try:
        while not is_ready(url):
            assert time.monotonic() < deadline, "the second gateway is not ready"
            time.sleep(0.1)
        yield url
    finally:
        gateway.terminate()
        gateway.wait(30)


def is_ready(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/readyz", timeout=5).is_success
    except httpx2.HTTPError:
        return False


@pytest.fixture
def client(live: Live, request: pytest.FixtureRequest) -> Iterator[openai.OpenAI]:
    """As everybody uses it, or strict about every field of an answer."""
    mode = getattr(request, "param", "normal")
    with live.client(strict=mode == "strict") as made:
        yield made


@pytest.fixture(scope="session")
def other(live: Live) -> Iterator[openai.OpenAI]:
    """A client of another project."""
    with live.client(live.key_of("other")) as made:
        yield made


@dataclass(frozen=True)
class Tuned:
    """
    One job of which much is asked.

    Attributes:
        id: Of the job, which has succeeded.
        model: Its model.
        file: Its training file.
    """

    id: str
    model: str
    file: str


@pytest.fixture(scope="session")
def tuned(live: Live) -> Tuned:
    """A job of three epochs over sixteen rows, with a validation file."""
    with live.client() as asking:
        return _tuned(asking, rows())


@pytest.fixture(scope="session")
def second_tuned(live: Live) -> Tuned:
    """Another model that answers the same questions otherwise."""
    with live.client() as asking:
        given = rows()
        for row in given:
            row["messages"][-1]["content"] = "unknown"
        return _tuned(asking, given)


def _tuned(asking: openai.OpenAI, given: list[dict[str, object]]) -> Tuned:
    job = samples.tuned(asking, given, rows(20)[16:], epochs=3, suffix="codes")
    assert job.fine_tuned_model
    return Tuned(job.id, job.fine_tuned_model, job.training_file)
