"""The HTTP door over a model server that fails as it is told to."""

from __future__ import annotations

import json
import socket
import time

import httpx2
import openai
import pytest
from inference_doors import (
    BASE,
    KEY,
    PROJECT,
    RELEASES,
    TUNED,
    WORKLOAD,
    Hang,
    await_true,
    broken,
    http_door,
    refuse,
)
from starlette.responses import Response

from services.inference.settings import InferenceSettings
from shared.receipts import read_receipt

HI = [{"role": "user", "content": "hi"}]
CHAT = {"model": BASE, "messages": HI}
PATH = "/v1/chat/completions"


def test_answer_says_who_gave_it_and_is_recorded(door, directed):
    door.world.route()
    answer = door.post(PATH, CHAT | {"model": "shop", "user": "u1"})
    assert answer.status_code == 200
    assert answer.headers["x-model"] == BASE
    assert answer.headers["x-release"] == RELEASES["live"]
    assert answer.headers["x-fallback"] == "false"
    receipt = read_receipt(answer.headers["x-inference-id"], PROJECT, [KEY])
    assert (receipt.workload_id, receipt.release_id, receipt.arm) == (
        WORKLOAD,
        RELEASES["live"],
        "live",
    )
    (line,) = door.world.lines
    assert line.record.inference_id == answer.headers["x-inference-id"]
    assert (line.record.status, line.record.door, line.record.model) == ("ok", "http", BASE)
    assert (line.record.input_tokens, line.record.output_tokens) == (5, 2)
    assert line.record.latency_ms > 0
    assert "u1" not in line.record.unit_hash
    assert line.content is None


def test_content_is_kept_only_where_the_policy_says_so(door):
    door.world.route(capture_content=True)
    door.post(PATH, CHAT | {"model": "shop"})
    client = door.client()  # its connections end with it
    client.chat.completions.create(model="shop", messages=HI, stream=True).response.read()
    first, second = door.world.await_lines(2)
    assert first.content is not None
    assert first.content.messages == HI
    assert first.content.answer == "hello"
    assert second.content == first.content


def test_model_is_loaded_once_and_asked_straight_afterwards(door, directed):
    for _ in range(3):
        assert door.post(PATH, CHAT).status_code == 200
    assert directed.loads == [BASE]


def test_child_that_moved_is_found_again(door, directed):
    assert door.post(PATH, CHAT).status_code == 200
    directed.script = [refuse(404)]
    assert door.post(PATH, CHAT).status_code == 200
    assert directed.loads == [BASE, BASE]


def test_overload_passes_after_a_repeat(door, directed):
    directed.script = [refuse(503), refuse(429)]
    answer = door.post(PATH, CHAT)
    assert answer.status_code == 200
    assert len(directed.bodies) == 3
    assert answer.headers["x-fallback"] == "false"


def test_retry_after_is_waited_for(door, directed):
    directed.script = [refuse(429, retry_after_ms="300")]
    began = time.monotonic()
    assert door.post(PATH, CHAT).status_code == 200
    assert time.monotonic() - began >= 0.3


def test_retry_after_beyond_the_deadline_is_not_waited_for(door, directed):
    directed.script = [refuse(503, retry_after="60")]
    began = time.monotonic()
    answer = door.post(PATH, CHAT)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "60"
    assert time.monotonic() - began < 5


def test_three_failures_are_an_answer_with_a_receipt_and_a_record(door, directed):
    directed.script = [refuse(503)] * 3
    answer = door.post(PATH, CHAT)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "upstream_unavailable"
    assert answer.headers["x-inference-id"].startswith("inf_")
    assert len(directed.bodies) == 3
    (line,) = door.world.lines
    assert (line.record.status, line.record.error_code) == ("error", "upstream_unavailable")


def test_overloaded_canary_falls_back_to_live_and_keeps_its_assignment(door, directed):
    door.world.route(
        canary_release=RELEASES["canary"], canary_model=TUNED, canary_share=1.0, live_model=BASE
    )
    directed.script = [refuse(503)] * 3
    answer = door.post(PATH, CHAT | {"model": "shop"})
    assert answer.status_code == 200
    assert answer.headers["x-fallback"] == "true"
    assert answer.headers["x-model"] == BASE
    assert answer.headers["x-release"] == RELEASES["canary"]
    assert [model for model, _ in directed.bodies] == [TUNED] * 3 + [BASE]
    (line,) = door.world.lines
    assert (line.record.fallback, line.record.arm, line.record.model) == (True, "canary", BASE)
    assert line.record.assigned_release == RELEASES["canary"]


def test_model_that_hangs_falls_back_within_the_total(world, directed, fast):
    world.settings = InferenceSettings(total_seconds=2, attempt_seconds=0.4, **fast)
    world.route(live_model=TUNED, fallback_model=BASE)
    directed.script = [lambda _body: Hang(directed)]
    with http_door(world) as door:
        answer = door.post(PATH, CHAT | {"model": "shop"})
    assert answer.status_code == 200
    assert answer.headers["x-fallback"] == "true"
    await_true(lambda: directed.departures == 1)


def test_model_that_hangs_without_a_fallback_is_given_up(world, directed, fast):
    world.settings = InferenceSettings(total_seconds=0.5, attempt_seconds=0.4, **fast)
    directed.script = [lambda _body: Hang(directed)]
    with http_door(world) as door:
        answer = door.post(PATH, CHAT)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "upstream_timeout"
    await_true(lambda: directed.departures == 1)


def test_wrong_request_is_neither_repeated_nor_held_against_the_model(door, directed):
    directed.script = [refuse(400)]
    answer = door.post(PATH, CHAT)
    assert answer.status_code == 400
    assert len(directed.bodies) == 1
    assert door.world.lines == []


def test_busy_model_falls_back_and_a_busy_process_refuses(world, directed, fast):
    world.settings = InferenceSettings(max_running_per_model=1, max_running=2, **fast)
    world.route(live_model=TUNED, fallback_model=BASE)
    directed.script = [lambda _body: Hang(directed), lambda _body: Hang(directed)]
    with http_door(world) as door:
        clients = [httpx2.Client(trust_env=False) for _ in range(2)]
        requests = []
        for number, client in enumerate(clients):
            request = client.build_request(
                "POST",
                f"{door.url}{PATH}",
                json=CHAT | {"model": "shop"},
                headers={"authorization": f"Bearer {door.key}"},
            )
            requests.append(_sent(door, request))
            await_true(lambda wanted=number + 1: len(directed.bodies) == wanted)
        assert [model for model, _ in directed.bodies] == [TUNED, BASE]
        answer = door.post(PATH, CHAT)
        assert answer.status_code == 429
        assert answer.json()["error"]["code"] == "too_many_requests"
        assert answer.headers["retry-after-ms"] == "250"
        for connection in requests:
            connection.close()
        await_true(lambda: directed.departures == 2)
        assert door.post(PATH, CHAT).status_code == 200


def _sent(door, request) -> socket.socket:
    """A connection on which *request* was sent and nothing was read."""
    connection = socket.create_connection((request.url.host, request.url.port))
    lines = [f"POST {request.url.path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + request.content)
    return connection


def test_client_that_leaves_stops_the_generation(door, directed):
    directed.script = [lambda _body: Hang(directed)]
    with pytest.raises(openai.APITimeoutError):
        door.client(timeout=0.3).chat.completions.create(model=BASE, messages=HI)
    await_true(lambda: directed.departures == 1)
    (line,) = door.world.await_lines(1)
    assert (line.record.status, line.record.error_code) == ("ok", "client_closed")


def test_client_that_leaves_a_stream_stops_the_generation(door, directed):
    first = b'data: {"content": "hel", "stop": false}\n\n'
    directed.script = [lambda _body: Hang(directed, first)]
    stream = door.client().chat.completions.create(model=BASE, messages=HI, stream=True)
    heard = [next(stream).choices[0].delta.content for _ in range(2)]
    stream.close()
    assert heard == ["", "hel"]
    await_true(lambda: directed.departures == 1)
    (line,) = door.world.await_lines(1)
    assert line.record.error_code == "client_closed"


def test_stream_has_openais_form(door):
    events = _events(door, CHAT | {"stream": True, "stream_options": {"include_usage": True}})
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert (
        "".join(
            choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"]
        )
        == "hello"
    )
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    assert [c["choices"][0]["finish_reason"] for c in chunks[:-1]] == [None, None, None, "stop"]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 7
    assert all(chunk["usage"] is None for chunk in chunks[:-1])


def _events(door, body) -> list[str]:
    text = door.post(PATH, body).text
    return [line.removeprefix("data: ") for line in text.splitlines() if line]


def test_failure_before_the_first_token_is_repeated_and_then_a_status(door, directed):
    directed.script = [refuse(503)]
    assert (
        door.post(PATH, CHAT | {"stream": True})
        .headers["content-type"]
        .startswith("text/event-stream")
    )
    directed.script = [refuse(503)] * 3
    answer = door.post(PATH, CHAT | {"stream": True})
    assert answer.status_code == 503
    assert answer.headers["x-inference-id"].startswith("inf_")


def test_stream_that_breaks_says_so_and_is_not_repeated(door, directed):
    directed.script = [broken]
    with pytest.raises(openai.APIError) as raised:
        list(door.client().chat.completions.create(model=BASE, messages=HI, stream=True))
    assert raised.value.code == "upstream_broken"
    assert len(directed.bodies) == 1
    (line,) = door.world.await_lines(1)
    assert (line.record.status, line.record.error_code) == ("error", "upstream_broken")


@pytest.mark.parametrize("text", ["{garbage", "7", "[]", "{}", '{"content": null, "stop": true}'])
def test_what_cannot_be_read_is_no_answer_and_no_bug_of_ours(door, directed, text):
    """Guarantee: an answer nobody can read is repeated, then 503 and recorded as broken."""
    directed.script = [lambda _body: Response(text, media_type="application/json")] * 3
    answer = door.post(PATH, CHAT)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "upstream_broken")
    directed.script = [lambda _body: Response(f"data: {text}\n\n")] * 3
    assert door.post(PATH, CHAT | {"stream": True}).status_code == 503
    assert [line.record.error_code for line in door.world.await_lines(2)] == ["upstream_broken"] * 2


def test_a_pause_without_end_is_not_passed_on(door, directed):
    directed.script = [refuse(503, retry_after="inf")] * 3
    assert door.post(PATH, CHAT).status_code == 503


def test_choices_are_counted_and_their_prompt_once(door, directed):
    answer = door.client().chat.completions.create(model=BASE, messages=HI, n=3, seed=1)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (5, 6)
    assert sorted(body["seed"] for _, body in directed.bodies) == [1, 2, 3]


def test_streamed_choices_are_all_complete(door):
    texts = {0: "", 1: ""}
    stream = door.client().chat.completions.create(model=BASE, messages=HI, n=2, stream=True)
    for chunk in stream:
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == {0: "hello", 1: "hello"}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"])
def test_unknown_model_is_not_found(door, path):
    body = {"model": "no-such", "messages": HI, "prompt": "a", "input": "a"}
    answer = door.post(path, body)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"
    assert answer.json()["error"]["param"] == "model"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"])
def test_key_without_the_scope_is_refused(door, path):
    assert door.post(path, CHAT, key=door.read_only_key).status_code == 403
    assert door.post(path, CHAT, key="ppt_x_y").status_code == 401


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (PATH, CHAT | {"tools": [{"type": "function"}]}, "tools.0.function"),
        (PATH, CHAT | {"messages": [{"role": "wizard", "content": "a"}]}, "messages[0].role"),
        (PATH, CHAT | {"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        ("/v1/completions", {"model": BASE, "prompt": ""}, "prompt"),
        ("/v1/completions", {"model": BASE, "prompt": "a", "suffix": "b"}, "suffix"),
        ("/v1/completions", {"model": BASE, "prompt": ["a"] * 20, "n": 20}, "n"),
        ("/v1/embeddings", {"model": BASE, "input": "a", "dimensions": 3}, "dimensions"),
    ],
)
def test_request_that_cannot_be_met_is_refused_by_name(door, path, body, param):
    answer = door.post(path, body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_tuned_model_makes_no_embeddings(door):
    door.world.route()
    answer = door.post("/v1/embeddings", {"model": TUNED, "input": "a"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "model_not_supported"


def test_user_header_keeps_a_user_on_one_side(door):
    door.world.route(canary_release=RELEASES["canary"], canary_model=TUNED, canary_share=0.5)
    releases = {
        user: {
            door.post(PATH, CHAT | {"model": "shop"}, **{"x-user-id": user}).headers["x-release"]
            for _ in range(4)
        }
        for user in map(str, range(6))
    }
    assert all(len(seen) == 1 for seen in releases.values())
    assert set.union(*releases.values()) == set(RELEASES.values())
