from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from model_servers import BASE, run_server, wait_until

from shared.errors import Invalid, Unavailable
from shared.rendering.bases import find_base
from shared.rendering.chat import render

pytestmark = pytest.mark.slow


def _prompt(text: str = "What is the capital of France?") -> list[int]:
    rendered = render(
        find_base(BASE), [{"role": "user", "content": text}], add_generation_prompt=True
    )
    return list(rendered.token_ids)


def _complete(url: str, **body: object) -> dict[str, object]:
    request = {"prompt": _prompt(), "temperature": 0, "n_predict": 12, "return_tokens": True}
    answer = httpx2.post(f"{url}/completion", json=request | body, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_loaded_model_answers_on_its_own_address(empty_server):
    loaded = empty_server.client.load("ft:base:acme:first:1", base=BASE)
    answer = _complete(loaded.url)
    assert answer["content"] == "The capital of France is Paris."
    assert answer["tokens_evaluated"] == len(_prompt())
    assert answer["model"] == "ft:base:acme:first:1"
    record = empty_server.record("ft:base:acme:first:1")
    assert (record["state"], record["pid"], record["url"]) == ("ready", loaded.pid, loaded.url)


def test_streamed_pieces_are_the_whole_answer(empty_server):
    loaded = empty_server.client.load("m", base=BASE)
    whole = _complete(loaded.url)
    request = {"prompt": _prompt(), "temperature": 0, "n_predict": 12, "stream": True}
    with httpx2.stream("POST", f"{loaded.url}/completion", json=request, timeout=60) as stream:
        events = [json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data")]
    assert "".join(event["content"] for event in events) == whole["content"]
    assert len(events) > 3
    assert events[-1]["stop"] is True


def test_openai_route_takes_token_ids_and_gives_logprobs(empty_server):
    loaded = empty_server.client.load("m", base=BASE)
    request = {"prompt": _prompt(), "temperature": 0, "max_tokens": 12, "logprobs": 2}
    body = httpx2.post(f"{loaded.url}/v1/completions", json=request, timeout=60).json()
    assert body["choices"][0]["text"] == "The capital of France is Paris."
    assert body["usage"]["prompt_tokens"] == len(_prompt())
    assert len(body["choices"][0]["logprobs"]["content"][0]["top_logprobs"]) == 2


def test_json_schema_binds_the_answer(empty_server):
    loaded = empty_server.client.load("m", base=BASE)
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 12}},
        "required": ["city"],
        "additionalProperties": False,
    }
    answer = _complete(loaded.url, json_schema=schema, n_predict=40)
    assert list(json.loads(str(answer["content"]))) == ["city"]


def test_more_requests_than_slots_are_all_answered(empty_server):
    loaded = empty_server.client.load("m", base=BASE)
    with ThreadPoolExecutor(16) as pool:
        futures = [
            pool.submit(_complete, loaded.url, prompt=_prompt(f"Say {n}."), n_predict=8)
            for n in range(16)
        ]
    assert all(len(future.result()["tokens"]) >= 1 for future in futures)


def test_loads_at_once_share_one_child(empty_server):
    with ThreadPoolExecutor(8) as pool:
        loads = list(pool.map(lambda _: empty_server.client.load("m", base=BASE), range(8)))
    assert len({load.pid for load in loads}) == 1


def test_killed_child_answers_again_at_the_same_address(empty_server):
    loaded = empty_server.client.load("m", base=BASE)
    before = _complete(loaded.url)["tokens"]
    os.kill(loaded.pid, signal.SIGKILL)
    wait_until(lambda: empty_server.record("m")["restarts"] == 1, seconds=10)
    again = empty_server.client.load("m", base=BASE)
    assert again.url == loaded.url
    assert again.pid != loaded.pid
    assert _complete(loaded.url)["tokens"] == before


def test_least_recently_used_model_leaves_for_a_third(empty_server):
    first = empty_server.client.load("first", base=BASE)
    empty_server.client.load("second", base=BASE)
    # A use that the parent does not see itself.
    _complete(first.url)
    empty_server.client.load("third", base=BASE)
    assert empty_server.resident() == {"first", "third"}


def test_pinned_models_are_kept_and_no_room_is_said_so(empty_server):
    pinned = empty_server.client.load("pinned", base=BASE, pinned=True)
    empty_server.client.load("other", base=BASE)
    empty_server.client.load("third", base=BASE, pinned=True)
    assert empty_server.resident() == {"pinned", "third"}
    with pytest.raises(Unavailable) as refused:
        empty_server.client.load("fourth", base=BASE)
    assert refused.value.code == "no_capacity"
    assert refused.value.retry_after is not None
    assert _complete(pinned.url)["content"]
    # Unpinned, it may go.
    empty_server.client.load("pinned", base=BASE, pinned=False)
    empty_server.client.load("fourth", base=BASE)
    assert empty_server.resident() == {"third", "fourth"}


def test_unload_lets_a_running_request_finish(empty_server):
    loaded = empty_server.client.load("m", base=BASE)
    answers: list[dict[str, object]] = []
    request = {"n_predict": 80, "ignore_eos": True}
    thread = threading.Thread(target=lambda: answers.append(_complete(loaded.url, **request)))
    thread.start()
    wait_until(lambda: empty_server.record("m")["running"] == 1, seconds=10)
    empty_server.client.unload("m")
    thread.join()
    assert len(answers[0]["tokens"]) == 80
    assert not _is_running(loaded.pid)
    again = httpx2.delete(f"{empty_server.url}/v1/models/m")
    assert (again.status_code, again.json()["error"]["code"]) == (404, "model_not_resident")


def test_address_of_another_model_is_refused(empty_server):
    """A port may be given away; its new owner must not answer for the old one."""
    first = empty_server.client.load("first", base=BASE)
    second = empty_server.client.load("second", base=BASE)
    port_of_first, path_of_second = first.url.split("/m/")[0], second.url.split("/m/")[1]
    answer = httpx2.post(f"{port_of_first}/m/{path_of_second}/completion", json={"prompt": [1]})
    assert answer.status_code == 404


@pytest.mark.parametrize(
    ("request_", "status", "code", "param"),
    [
        ({"model": "m", "base": "nobody-1b"}, 404, "base_not_found", "base"),
        (
            {"model": "m", "base": BASE, "adapter": "/no/such"},
            400,
            "adapter_not_readable",
            "adapter",
        ),
        ({"model": "m", "base": BASE, "adapter": __file__}, 400, "adapter_not_readable", "adapter"),
        ({"model": "m"}, 400, "invalid_value", "base"),
        ({"model": "", "base": BASE}, 400, "invalid_value", "model"),
        ({"model": "m", "base": BASE, "extra": 1}, 400, "invalid_value", "extra"),
    ],
)
def test_refused_loads_name_the_field(empty_server, request_, status, code, param):
    answer = httpx2.post(f"{empty_server.url}/v1/load", json=request_)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param)
    assert error["type"] == "invalid_request_error"
    assert empty_server.resident() == set()


def test_base_file_is_no_adapter(empty_server):
    with pytest.raises(Invalid) as refused:
        empty_server.client.load("m", base=BASE, adapter=str(find_base(BASE).gguf_path))
    assert refused.value.code == "adapter_not_lora"


def test_foreign_host_name_is_refused(server):
    """A web page that points its own name at 127.0.0.1 gets nothing."""
    answer = httpx2.get(f"{server.url}/healthz", headers={"host": "evil.example"})
    assert answer.status_code == 400


def test_embeddings_have_length_one_and_tell_texts_apart(server):
    cat, kitten, tax = server.client.embed(
        [_prompt("A cat sleeps."), _prompt("A kitten sleeps."), _prompt("Tax law changed.")],
        base=BASE,
    )
    assert len(cat) == find_base(BASE).hidden_size
    assert sum(value * value for value in cat) == pytest.approx(1, abs=1e-4)
    near = sum(a * b for a, b in zip(cat, kitten, strict=True))
    far = sum(a * b for a, b in zip(cat, tax, strict=True))
    assert near > far


def test_too_long_input_is_refused_by_name(server):
    with pytest.raises(Invalid) as refused:
        server.client.embed([[5], [5] * 3000], base=BASE)
    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "input[1]")


def test_children_die_with_a_killed_parent():
    with run_server() as server:
        pids = [server.client.load("m", base=BASE).pid]
        server.client.embed([[5, 6]], base=BASE)
        pids = _children(server.process.pid)
        assert len(pids) == 2
        server.process.kill()
        server.process.wait()
        wait_until(lambda: not any(map(_is_running, pids)), seconds=5)


def test_terminated_parent_stops_its_children():
    with run_server() as server:
        loaded = server.client.load("m", base=BASE)
        server.process.terminate()
        # uvicorn raises the signal again once everything is shut down.
        assert server.process.wait(15) == -signal.SIGTERM
        assert not _is_running(loaded.pid)


def test_taken_port_names_the_setting():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        run = subprocess.run(
            [sys.executable, "-m", "services.serving"],
            env={**os.environ, "PERPETUNE_SERVING_PORT": port},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert run.returncode == 1
    assert "PERPETUNE_SERVING_PORT" in run.stderr


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
