"""What the model server and llama.cpp say, as far as somebody asks for it."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote

from shared.testing.upstream.exchange import Payload

Operation = Literal["load", "unload", "list", "health", "complete", "score", "embed"]

_ROUTES: dict[tuple[str, str], Operation] = {
    ("POST", "/v1/load"): "load",
    ("POST", "/v1/score"): "score",
    ("POST", "/v1/embed"): "embed",
    ("GET", "/healthz"): "list",
}


@dataclass(frozen=True, slots=True)
class Resident:
    """A model that was loaded; *birth* counts all that ever were."""

    model: str
    base: str
    adapter: str | None
    birth: int


def route(method: str, path: str, body: dict[str, Any]) -> tuple[Operation, str, int]:
    """
    What a request asks, of which model, and which birth of it its address means.

    Raises:
        LookupError: Nobody of ours asks this.
    """
    if path.startswith("/child/"):
        _, _, birth, model, verb = path.split("/")
        operation: Operation = "health" if verb == "health" else "complete"
        return operation, unquote(model), int(birth)
    if method == "DELETE":
        return "unload", unquote(path.removeprefix("/v1/models/")), 0
    return _ROUTES[method, path], body.get("model", ""), 0


def say(model: str, prompt: Sequence[int]) -> str:
    """The same words for the same question, and others for another."""
    number = zlib.crc32(f"{model} {list(prompt)}".encode())
    return f"The answer is {number}."


def completion(body: dict[str, Any], text: str) -> Payload:
    """llama.cpp's `/completion`, a word a token."""
    tokens = [word + " " for word in text.split(" ")]
    tokens[-1] = tokens[-1][:-1]
    end = {
        "content": "" if body.get("stream") else text,
        "stop": True,
        "stop_type": "eos",
        "tokens_evaluated": len(body["prompt"]),
        "tokens_predicted": len(tokens),
        "timings": {"cache_n": 0},
    }
    if not body.get("stream"):
        return Payload.of(end)
    said = [
        {"index": 0, "content": token, "stop": False, "tokens_predicted": number}
        for number, token in enumerate(tokens, start=1)
    ]
    return Payload.events([*said, end])


def record(resident: Resident, url: str) -> Payload:
    """The model server's record of a model."""
    return Payload.of(
        {
            "object": "model",
            "model": resident.model,
            "url": url,
            "pid": resident.birth,
            "base": resident.base,
            "adapter": resident.adapter,
            "pinned": False,
            "state": "ready",
            "restarts": 0,
            "running": 0,
            "slots": 8,
            "context_tokens": 2048,
        }
    )


def scores(body: dict[str, Any]) -> Payload:
    """A tenth of a nat for every token."""
    rows = [
        {
            "logprobs": [-0.1] * sum(sequence["scored"]),
            "greedy": [True] * sum(sequence["scored"]),
            "top_logprobs": [],
        }
        for sequence in body["sequences"]
    ]
    return Payload.of({"sequences": rows})


def vectors(body: dict[str, Any]) -> Payload:
    """The same direction for every text."""
    return Payload.of({"embeddings": [[1.0, 0.0] for _ in body["input"]]})


def _error(status: int, code: str) -> Payload:
    error = {"message": code, "type": "invalid_request_error", "param": "model", "code": code}
    return Payload.of({"error": error}, status)


MISSING = _error(404, "model_not_resident")
CONFLICT = _error(400, "model_conflict")
