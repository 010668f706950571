"""What OpenAI's fine-tuning API says, as far as somebody asks for it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from email.parser import BytesParser
from typing import Any

from shared.testing.upstream.acts import Act
from shared.testing.upstream.exchange import Exchange, Payload

_JOBS = "/v1/fine_tuning/jobs"
# Method and path, in order; the group is the id.
_ROUTES: Sequence[tuple[str, str, str]] = (
    ("POST", r"/v1/files", "upload"),
    ("GET", r"/v1/files", "list_files"),
    ("DELETE", r"/v1/files/([^/]+)", "delete_file"),
    ("GET", r"/v1/files/([^/]+)/content", "content"),
    ("POST", _JOBS, "create"),
    ("GET", _JOBS, "list_jobs"),
    ("GET", rf"{_JOBS}/([^/]+)", "retrieve"),
    ("POST", rf"{_JOBS}/([^/]+)/cancel", "cancel"),
    ("POST", rf"{_JOBS}/([^/]+)/pause", "pause"),
    ("POST", rf"{_JOBS}/([^/]+)/resume", "resume"),
    ("GET", rf"{_JOBS}/([^/]+)/events", "events"),
    ("GET", rf"{_JOBS}/([^/]+)/checkpoints", "checkpoints"),
    ("GET", r"/v1/models/(.+)", "model"),
)


def route(method: str, path: str) -> tuple[str, str]:
    """
    What a request asks, and of which thing.

    Raises:
        LookupError: Nobody of ours asks this.
    """
    for wanted, pattern, operation in _ROUTES:
        if wanted == method and (found := re.fullmatch(pattern, path)):
            return operation, found[1] if found.groups() else ""
    raise LookupError(f"{method} {path}")


def read_upload(content_type: str, body: bytes) -> tuple[str, bytes]:
    """Name and bytes of the file in a multipart form."""
    head = f"content-type: {content_type}\r\n\r\n".encode()
    for part in BytesParser().parsebytes(head + body).walk():
        if name := part.get_filename():
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes), "a part with a name is no form of its own"
            return name, content
    raise LookupError("no file in the form")


def error(status: int, code: str, message: str = "no") -> Payload:
    body = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return Payload.of({"error": body}, status)


def page(items: Sequence[dict[str, Any]], query: dict[str, str]) -> Payload:
    """Those behind `after`, as many as `limit` says; *items* are newest first."""
    ids = [item["id"] for item in items]
    start = ids.index(query["after"]) + 1 if query.get("after") in ids else 0
    limit = int(query.get("limit", 20))
    shown = items[start : start + limit]
    more = len(items) > start + limit
    return Payload.of({"object": "list", "data": list(shown), "has_more": more})


def event(number: int, job_id: str, message: str, **data: float) -> dict[str, Any]:
    return {
        "id": f"ftevent-{job_id}-{number}",
        "object": "fine_tuning.job.event",
        "created_at": 1_800_000_000 + number,
        "level": "info",
        "message": message,
        "data": data or None,
        "type": "metrics" if data else "message",
    }


def checkpoint(job_id: str, step: int) -> dict[str, Any]:
    return {
        "id": f"ftckpt_{job_id}_{step}",
        "object": "fine_tuning.job.checkpoint",
        "created_at": 1_800_000_000,
        "fine_tuned_model_checkpoint": f"ft:{job_id}:ckpt-step-{step}",
        "fine_tuning_job_id": job_id,
        "metrics": {"step": step, "train_loss": 1.0 / step},
        "step_number": step,
    }


def word(status: str) -> Act:
    """A job: well, but for its status."""
    return answer_with(status=status)


def answer_with(**changes: object) -> Act:
    """An object: well, but for these fields."""

    def act(exchange: Exchange) -> None:
        payload = exchange.perform()
        body = json.loads(payload.parts[0])
        exchange.send(Payload.of(body | changes, payload.status))

    return act
