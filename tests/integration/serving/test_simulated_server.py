"""The simulated model server says what the real one says, as far as it says anything."""

from __future__ import annotations

import json

import httpx2
import pytest
from model_servers import BASE

from services.inference.adapters.llama_answers import read_piece
from shared.rendering.bases import find_base
from shared.rendering.chat import render
from shared.testing.upstream import Upstream

pytestmark = pytest.mark.slow


def _asked(url, text, **fields):
    """Events of a stream, or the whole answer."""
    messages = [{"role": "user", "content": text}]
    prompt = render(find_base(BASE), messages, add_generation_prompt=True).token_ids
    body = {"prompt": list(prompt), "temperature": 0, "n_predict": 24} | fields
    with httpx2.stream("POST", f"{url}/completion", json=body, timeout=60) as answer:
        lines = [line for line in answer.iter_lines() if line]
    return [line.removeprefix("data: ") for line in lines]


def _keys(text):
    return set(json.loads(text))


def test_answers_have_the_keys_of_real_ones(empty_server):
    with Upstream() as simulated:
        said = {}
        for name, url in (("real", empty_server.url), ("simulated", simulated.url)):
            record = httpx2.post(f"{url}/v1/load", json={"model": "m", "base": BASE}).json()
            [whole] = _asked(record["url"], "hi", stream=False)
            first, *_, last = _asked(record["url"], "hi", stream=True)
            health = httpx2.get(f"{record['url']}/health")
            assert (health.status_code, health.json()["status"]) == (200, "ok")
            again = httpx2.post(f"{url}/v1/load", json={"model": "m", "base": BASE}).json()
            assert (again["url"], again["pid"]) == (record["url"], record["pid"])
            unknown = httpx2.post(f"{record['url']}x/completion", json={"prompt": [1]})
            assert unknown.status_code == 404
            assert httpx2.delete(f"{url}/v1/models/m").json() == {"model": "m", "deleted": True}
            assert httpx2.delete(f"{url}/v1/models/m").status_code == 404
            said[name] = [set(record), *map(_keys, (whole, first, last))]
    for real, made in zip(said["real"], said["simulated"], strict=True):
        assert made <= real


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("Repeat: 😀🎉😀🎉 äöü 日本語", {}),
        ("Count from one to nine.", {"stop": ["seven"]}),
        ("Count from one to nine.", {"n_probs": 2}),
    ],
)
def test_every_event_of_a_real_stream_has_a_token_of_its_own(empty_server, text, fields):
    """What tells an event that came twice from two that say the same."""
    loaded = empty_server.client.load("m", base=BASE)
    *events, last = _asked(loaded.url, text, stream=True, **fields)
    counts = [json.loads(event)["tokens_predicted"] for event in events]
    assert len(counts) > 3
    assert counts == sorted(set(counts))
    assert read_piece(last, 2).end is not None
