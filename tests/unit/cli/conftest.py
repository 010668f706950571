"""A small HTTP server that answers what a test tells it to, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from services.cli.main import app

KEY = "ppt_stub_0"


@dataclass
class Stub:
    """
    Attributes:
        answers: By method and path without query: status, JSON body and further headers.
        first: Answers that are given once each, before those of `answers`.
        asked: Method, path with query, body (parsed if it is JSON), Authorization header.
    """

    url: str = ""
    answers: dict[tuple[str, str], tuple[int, object, dict[str, str]]] = field(default_factory=dict)
    first: dict[tuple[str, str], list[tuple[int, object, dict[str, str]]]] = field(
        default_factory=dict
    )
    asked: list[tuple[str, str, object, str | None]] = field(default_factory=list)

    def will_answer(self, method, path, body, status=200, headers=None):
        self.answers[method, path] = (status, body, headers or {})

    def will_first_answer(self, method, path, body, status=200, headers=None):
        self.first.setdefault((method, path), []).append((status, body, headers or {}))

    def bodies(self, method, path):
        """What was asked of a route, in order."""
        return [body for verb, at, body, _ in self.asked if (verb, at) == (method, path)]


@pytest.fixture
def stub():
    with serving() as served:
        yield served


@pytest.fixture
def provider():
    """The service that is left."""
    with serving() as served:
        yield served


@contextmanager
def serving():
    served = Stub()

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            length = int(self.headers.get("content-length") or 0)
            content = self.rfile.read(length)
            is_json = "json" in (self.headers.get("content-type") or "")
            body = json.loads(content) if content and is_json else content or None
            served.asked.append((self.command, self.path, body, self.headers.get("authorization")))
            missing = {"error": {"message": "There is no such route.", "code": "unknown_url"}}
            path = self.path.partition("?")[0]
            once = served.first.get((self.command, path))
            status, answer, headers = (
                once.pop(0)
                if once
                else served.answers.get((self.command, path), (404, missing, {}))
            )
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 - the names http.server looks for

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    served.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def perpetune(stub, capsys, monkeypatch, tmp_path):
    """Runs a command against the stub: exit code, standard output, standard error."""
    monkeypatch.setenv("PERPETUNE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PERPETUNE_URL", stub.url)
    monkeypatch.setenv("PERPETUNE_API_KEY", KEY)

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            app(list(arguments))
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return run
