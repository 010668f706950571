"""A small HTTP server with the model server's contract, whose answers a test decides."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from shared.rendering.bases import find_base
from shared.rendering.tokenizer import decode, encode

BASE = "smollm2-135m-instruct"
TUNED = "ft:smollm2-135m-instruct:acme:listings:1"


def key_of(project: str) -> str:
    """The API key of a project in these tests."""
    return f"ppt_{project.ljust(10, '0')}_" + "a" * 43


@dataclass
class StandIn:
    """
    Attributes:
        answers: By model: from the prompt's text to the answer. None refuses the prompt.
        vectors: By text: what stands for it.
        nll: By adapter folder or None: nats per token.
        seconds: How long an answer takes.
        is_away: Answers 503 to everything.
    """

    url: str = ""
    answers: dict[str, Callable[[str], str | None]] = field(default_factory=dict)
    vectors: Callable[[str], list[float]] = lambda text: [1.0, 0.0]
    nll: Callable[[str | None], float] = lambda adapter: 0.5 if adapter else 2.0
    seconds: Callable[[str], float] = lambda prompt: 0.0
    is_away: bool = False
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def load(self, body: dict[str, Any]) -> dict[str, Any]:
        url = f"{self.url}/m/{body['model']}"
        return {"model": body["model"], "url": url, "pid": 1, "state": "ready"}

    def complete(self, model: str, body: dict[str, Any]) -> dict[str, Any] | None:
        prompt = decode(find_base(BASE), body["prompt"])
        time.sleep(self.seconds(prompt))
        answer = self.answers[model](prompt)
        if answer is None:
            return None
        tokens = len(encode(find_base(BASE), answer))
        return {"content": answer, "tokens_predicted": tokens, "stop": True, "stop_type": "eos"}

    def score(self, body: dict[str, Any]) -> dict[str, Any]:
        logprob = -self.nll(body["adapter"])
        return {
            "sequences": [
                {
                    "logprobs": [logprob] * sum(sequence["scored"]),
                    "greedy": [False] * sum(sequence["scored"]),
                    "top_logprobs": [],
                }
                for sequence in body["sequences"]
            ]
        }

    def embed(self, body: dict[str, Any]) -> dict[str, Any]:
        # Every text is sent twice, a line apart.
        halves = [ids[: len(ids) // 2] for ids in body["input"]]
        texts = [decode(find_base(body["base"]), half) for half in halves]
        return {"embeddings": [self.vectors(text) for text in texts]}

    def respond(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.requests.append((path, body))
        if self.is_away:
            return 503, _error("server_closing")
        if path == "/v1/load":
            return 200, self.load(body)
        if path == "/v1/score":
            return 200, self.score(body)
        if path == "/v1/embed":
            return 200, self.embed(body)
        completion = self.complete(path.split("/")[2], body)
        return (200, completion) if completion else (400, _error("exceed_context_size"))


def _error(code: str) -> dict[str, Any]:
    return {"error": {"message": code, "type": "t", "param": None, "code": code}}


@contextmanager
def run_stand_in() -> Iterator[StandIn]:
    stand_in = StandIn()

    class Door(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            status, answer = stand_in.respond(self.path, body)
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            self.send_response(503 if stand_in.is_away else 200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Tests read no access log."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Door) as server:
        server.daemon_threads = True
        stand_in.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield stand_in
        server.shutdown()
