"""Loading a release on a real model server: before it answers, it gets no traffic."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import httpx2
import pytest
from loop_rooms import BASE, Loop

from services.releases.service import start
from shared.contracts.releases import FoldCanary
from shared.errors import Unavailable
from shared.serving_client import ServingClient
from shared.testing import upstream as acts
from shared.testing.upstream import Upstream


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _answers(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/healthz", timeout=2).is_success
    except httpx2.HTTPError:
        return False


@pytest.fixture(scope="module")
def server():
    port = _free_port()
    names = {"PERPETUNE_SERVING_PORT": str(port), "PERPETUNE_SERVING_CONTEXT_TOKENS": "512"}
    process = subprocess.Popen(
        [sys.executable, "-m", "services.serving"], env={**os.environ, **names}
    )
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 30
        while not _answers(url):
            assert time.monotonic() < until, "the model server did not start"
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def _request(loop: Loop, workload: str, model: str) -> str:
    with loop.units.open(loop.context) as uow:
        return start.request_release(
            uow,
            workload=workload,
            model=model,
            evaluation_id=None,
            override_reason="a test",
        ).release_id


def _state(loop: Loop, release_id: str) -> str:
    return loop.value("SELECT state FROM releases.releases WHERE release_id = :id", id=release_id)


@pytest.mark.slow
def test_canary_begins_when_its_model_is_resident(loop, workload, server):
    tuned = loop.add_model("one")
    first = _request(loop, workload, tuned)
    loop.deliver()
    for _ in range(12):
        loop.add_outcome(workload, loop.live(workload).live_release, 0)
        loop.add_outcome(workload, first, 1, arm="canary")
    loop.say(FoldCanary(release_id=first))
    assert loop.live(workload).live_model == tuned

    with ServingClient(server) as client:
        loop.serving = client
        release_id = _request(loop, workload, BASE)
        loop.deliver()
    assert loop.live(workload).canary_model == BASE
    assert _state(loop, release_id) == "canary"
    assert BASE in httpx2.get(f"{server}/healthz").json()["models"]


@pytest.mark.slow
def test_adapter_that_cannot_be_loaded_is_rolled_back_unseen(loop, workload, server):
    release_id = _request(loop, workload, loop.add_model("broken", data=b"no adapter at all"))
    with ServingClient(server) as client:
        loop.serving = client
        loop.deliver()
    assert _state(loop, release_id) == "rolled_back"
    assert loop.live(workload).canary_release is None
    reason = loop.value("SELECT reason FROM releases.releases WHERE release_id = :i", i=release_id)
    assert "cannot be loaded" in reason


def test_release_waits_while_the_server_is_away(loop, workload):
    with ServingClient(f"http://127.0.0.1:{_free_port()}") as client:
        loop.serving = client
        release_id = _request(loop, workload, loop.add_model("one"))
        with pytest.raises(Unavailable):
            loop.deliver()
    assert _state(loop, release_id) == "gated"
    assert len(loop.sent("releases.load_release")) == 1


@pytest.fixture
def upstream(loop):
    with Upstream() as started, ServingClient(started.url) as client:
        loop.serving = client
        yield started


def test_load_whose_answer_was_lost_is_one_resident_and_one_canary(loop, workload, upstream):
    """Guarantee (F-18): loading again finds what is there, and the release starts exactly once."""
    model = loop.add_model("one")
    release_id = _request(loop, workload, model)
    upstream.once(acts.lose_answer, acts.lose_answer, on="load")
    for _ in range(2):
        with pytest.raises(Unavailable):
            loop.deliver()
        assert _state(loop, release_id) == "gated"
    loop.deliver()
    assert _state(loop, release_id) == "canary"
    assert list(upstream.births.values()) == [1]
    assert len(upstream.calls("load")) == 3
    assert loop.actions().count("release.started") == 1
    assert not loop.sent("releases.load_release")


@pytest.mark.parametrize(
    ("on", "act"),
    [
        ("load", acts.say_state("succeeded")),
        ("load", acts.say_state("restarting")),
        ("load", acts.send_raw(b'{"state": "ready"}')),
        ("load", acts.send_raw(b"<html>")),
        ("load", acts.refuse(429, retry_after=3)),
        ("load", acts.refuse(500)),
        ("health", acts.not_found),
        ("health", acts.refuse(503)),
    ],
)
def test_model_that_is_not_really_there_gets_no_traffic(loop, workload, upstream, on, act):
    """Guarantee (F-19): a release waits for its model; it neither starts nor is given up."""
    release_id = _request(loop, workload, loop.add_model("one"))
    with upstream.during(act, on=on), pytest.raises(Unavailable):
        loop.deliver()
    assert _state(loop, release_id) == "gated"
    assert loop.live(workload).canary_release is None
    loop.deliver()
    assert _state(loop, release_id) == "canary"


def test_another_model_than_asked_for_is_never_released(loop, workload, upstream):
    release_id = _request(loop, workload, loop.add_model("one"))
    other = b'{"model": "other", "url": "http://127.0.0.1:1/m", "pid": 1, "state": "ready"}'
    upstream.once(acts.send_raw(other), on="load")
    loop.deliver()
    assert _state(loop, release_id) == "rolled_back"
    assert loop.live(workload).canary_release is None
