"""The HTTP door on a real socket, over a model server that a test directs or the real one."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import openai
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as Path_

from services.inference.adapters.llama import LlamaUpstream
from services.inference.adapters.residence import Residence
from services.inference.adapters.scoring import ServingScoring
from services.inference.api import router as inference_routes
from services.inference.bootstrap import Inference, make_http, make_inference
from services.inference.domain.routing import Route, Served
from services.inference.recorder import Recorder
from services.inference.records import Line
from services.inference.router import Router
from services.inference.settings import InferenceSettings
from services.inference.spool import Spool
from shared.adapter_folders import AdapterFolders
from shared.blobs import make_blob_store
from shared.db import Units
from shared.http import RequestBoundary, check_scopes, make_api
from shared.ids import Digest, Project, new_id
from shared.keys import KeyRing, StoredKey, mac_of, new_key
from shared.rotation import RotatingSecret
from shared.serving_client import AsyncServingClient

PROJECT = Project("acme")
STRANGER = Project("stranger")
KEY = b"a key for receipts"
BASE = "smollm2-135m-instruct"
TUNED = f"ft:{BASE}:acme:shop:1"
RELEASES = {"live": new_id("rel"), "canary": new_id("rel")}
WORKLOAD = new_id("wl")


@dataclass
class Fixed:
    """A snapshot that only a test changes."""

    value: Any

    def refresh_soon(self) -> None:
        return None


@dataclass
class World:
    """What routing knows, and the parts around the core."""

    folder: Path
    serving_url: str
    settings: InferenceSettings = field(default_factory=InferenceSettings)
    routes: Fixed = field(default_factory=lambda: Fixed({}))
    models: Fixed = field(default_factory=lambda: Fixed({}))
    inference: Inference | None = None

    def __post_init__(self) -> None:
        self.blobs = make_blob_store(str(self.folder / "blobs"))
        self.spool = Spool(self.folder / "spool", segment_bytes=1 << 20, max_bytes=1 << 24)

    def route(self, **changes: Any) -> None:
        """Put a workload `shop` before live and canary."""
        digest = self.blobs.put(PROJECT, b"an adapter")
        self.models.value = {
            (PROJECT, TUNED): Served(PROJECT, TUNED, BASE, digest, Digest("0" * 64))
        }
        values: dict[str, Any] = {
            "workload_id": WORKLOAD,
            "live_release": RELEASES["live"],
            "live_model": BASE,
            "canary_release": None,
            "canary_model": None,
            "canary_share": 0.0,
            "salt": "s",
            "fallback_model": None,
            "capture_content": False,
        }
        self.routes.value = {(PROJECT, "shop"): Route(**(values | changes))}

    def compose(self) -> Inference:
        serving = AsyncServingClient(self.serving_url)
        self.inference = make_inference(
            self.settings,
            router=Router(self.routes, self.models),
            upstream=LlamaUpstream(Residence(serving, self.blobs), make_http()),
            scoring=ServingScoring(serving, self.blobs, AdapterFolders(self.folder / "peft")),
            recorder=Recorder(self.spool, RotatingSecret.fixed(KEY.decode())),
        )
        return self.inference

    @property
    def lines(self) -> list[Line]:
        """All that was recorded."""
        return [
            Line.decode(raw)
            for segment in self.spool.segments()
            for raw in segment.path.read_bytes().splitlines()
        ]

    def await_lines(self, count: int) -> list[Line]:
        await_true(lambda: len(self.lines) >= count)
        return self.lines


@dataclass
class Door:
    """The HTTP door and somebody who may use it."""

    world: World
    url: str
    key: str
    read_only_key: str
    stranger_key: str

    def client(self, **options: Any) -> openai.OpenAI:
        """The unmodified client, as strict as it can be."""
        return openai.OpenAI(
            base_url=f"{self.url}/v1",
            **(
                {
                    "api_key": self.key,
                    "_strict_response_validation": True,
                    "max_retries": 0,
                    "timeout": 60,
                }
                | options
            ),
        )

    def post(self, path: str, body: Any, key: str | None = None, **headers: str):
        return httpx2.post(
            f"{self.url}{path}",
            json=body,
            headers={"authorization": f"Bearer {key or self.key}", **headers},
            timeout=60,
            trust_env=False,
        )


def await_true(is_true: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < end, "it did not become true in time"
        time.sleep(0.02)


@contextmanager
def served(app: Any, port: int = 0) -> Iterator[str]:
    """The address of *app*, run by uvicorn in a thread."""
    listener = socket.create_server(("127.0.0.1", port))
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    await_true(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join(5)
        listener.close()


@contextmanager
def http_door(world: World, units: Units | None = None) -> Iterator[Door]:
    keys = {}
    texts = []
    holders = (
        (PROJECT, "inference:write"),
        (PROJECT, "files:read"),
        (STRANGER, "inference:write"),
    )
    for project, scope in holders:
        key_id, key = new_key()
        keys[key_id] = StoredKey(key_id, project, mac_of(key, "p"), frozenset({scope}), None)
        texts.append(key)
    app = make_api(
        title="t", version="1", units=units, keys=KeyRing(Fixed(keys), RotatingSecret.fixed("p"))
    )
    app.include_router(inference_routes)
    check_scopes(app)
    app.state.inference = world.compose()
    boundary = RequestBoundary(app, max_body_bytes=1 << 22, max_upload_bytes=1 << 22)
    with served(boundary) as url:
        yield Door(world, url, *texts)


@dataclass
class Directed:
    """
    A model server with one child, on real sockets, that does what a test says.

    Attributes:
        script: One entry per `/completion`: a function of its body, or nothing for a good answer.
        bodies: What the children were asked, with the model, oldest first.
        loads: Models that were loaded, oldest first.
    """

    script: list[Callable[[dict[str, Any]], Response | None]] = field(default_factory=list)
    bodies: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    departures: int = 0
    url: str = ""

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Path_("/v1/load", self._load, methods=["POST"]),
                Path_("/child/{generation:int}/{model}/health", _well),
                Path_(
                    "/child/{generation:int}/{model}/completion", self._complete, methods=["POST"]
                ),
            ]
        )

    async def _load(self, request: Request) -> Response:
        body = await request.json()
        self.loads.append(body["model"])
        url = f"{self.url}/child/{len(self.loads)}/{body['model']}"
        return JSONResponse({"model": body["model"], "url": url, "pid": 1, "state": "ready"})

    async def _complete(self, request: Request) -> Response:
        body = await request.json()
        self.bodies.append((request.path_params["model"], body))
        if self.script:
            step = self.script.pop(0)
            answer = step(body)
            if answer is not None:
                return answer
        return good(body)


async def _well(_request: Request) -> Response:
    return Response()


END = {
    "content": "",
    "stop": True,
    "stop_type": "eos",
    "tokens_evaluated": 5,
    "tokens_predicted": 2,
    "timings": {"cache_n": 1},
}


def good(body: dict[str, Any]) -> Response:
    if not body["stream"]:
        return JSONResponse(END | {"content": "hello"})
    return _events({"content": "hel", "stop": False}, {"content": "lo", "stop": False}, END)


def _events(*bodies: dict[str, Any]) -> Response:
    text = "".join(f"data: {json.dumps(body)}\n\n" for body in bodies)
    return Response(text, media_type="text/event-stream")


def refuse(status: int, **headers: str) -> Callable[[dict[str, Any]], Response]:
    body = {"error": {"message": "no", "type": "some_error", "code": status}}
    return lambda _body: JSONResponse(
        body, status, {name.replace("_", "-"): value for name, value in headers.items()}
    )


def broken(_body: dict[str, Any]) -> Response:
    """Begins well and ends too early."""
    return _events({"content": "hel", "stop": False})


class Hang(Response):
    """Answers nothing until the other side goes away."""

    def __init__(self, directed: Directed, first: bytes = b"") -> None:
        super().__init__()
        self._directed = directed
        self._first = first

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._first:
            headers = [(b"content-type", b"text/event-stream")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": self._first, "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        self._directed.departures += 1


@contextmanager
def model_server() -> Iterator[str]:
    """The real model server, as a process."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "services.serving"],
        env=os.environ | {"PERPETUNE_SERVING_PORT": str(port)},
    )
    url = f"http://127.0.0.1:{port}"
    try:
        await_true(lambda: _is_healthy(url), 30)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def _is_healthy(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/healthz", trust_env=False).is_success
    except httpx2.HTTPError:
        return False
