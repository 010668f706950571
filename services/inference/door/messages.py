"""Messages of the queue door, as Celery and kombu write them into Redis lists.

The form is kombu's Redis transport (kombu.transport.redis and .virtual, 5.x) and Celery's message
protocol 2; a test exchanges messages with both.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import uuid
from dataclasses import dataclass, replace
from typing import Any

from shared.broker import ROOM_QUEUES
from shared.errors import Invalid

TASK = "inference.generate"
QUEUE_STEM = "inference.door."
_MAX_ID_CHARACTERS = 200
_QUEUE_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,200}")
# Queues and keys that mean something to somebody else.
_RESERVED = frozenset({*ROOM_QUEUES, "dead", "celery"})
_RESERVED_STEMS = ("_kombu", "unacked")


@dataclass(frozen=True, slots=True)
class Sender:
    """
    Where an answer goes.

    Attributes:
        reply_to: Name of a queue; None when nobody waits.
        correlation_id: Sent back as it came.
        task_id: Celery's id of the task; None for plain messages.
    """

    reply_to: str | None = None
    correlation_id: str | None = None
    task_id: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """
    A request from a queue.

    Attributes:
        id: The same id gets the same answer; None when the sender gave none.
        body: Fields of a chat request.
    """

    sender: Sender
    id: str | None
    body: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what is asked, hexadecimal."""
        text = json.dumps(self.body, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


class Malformed(Invalid):
    """The message is no request; see the documentation of the queue door."""

    def __init__(self, message: str, sender: Sender) -> None:
        super().__init__(f"{message} Send what the queue door documents.", code="malformed_message")
        self.sender = sender


def queue_of(project: str) -> str:
    """The queue of a project."""
    return f"{QUEUE_STEM}{project}"


def read_request(raw: bytes, project: str, *, max_body_bytes: int) -> Request:
    """
    The request in a message of the queue of *project*.

    Raises:
        Malformed: It cannot be read; its `sender` says where to answer, if that can be read.
    """
    envelope = _object(raw, Sender())
    properties, headers = envelope.get("properties"), envelope.get("headers")
    properties = properties if isinstance(properties, dict) else {}
    headers = headers if isinstance(headers, dict) else {}
    sender = Sender(
        correlation_id=_text(properties.get("correlation_id")),
        task_id=_text(headers.get("id")) if "task" in headers else None,
    )
    reply_to = properties.get("reply_to")
    if reply_to is not None and not may_reply_to(reply_to, project):
        raise Malformed(f"reply_to {reply_to!r:.100} names no queue of a sender.", sender)
    sender = replace(sender, reply_to=reply_to)
    if len(raw) > max_body_bytes:
        raise Malformed(f"The message is longer than {max_body_bytes} bytes.", sender)
    if headers.get("task", TASK) != TASK:
        raise Malformed(f"Task {headers['task']!r:.100} is not known here; use {TASK}.", sender)
    content = _content(envelope, properties, sender)
    body = _arguments(content, sender) if sender.task_id is not None else content
    if not isinstance(body, dict):
        raise Malformed("The request is no JSON object.", sender)
    return _request(sender, body)


def write_reply(request_id: str | None, answer: dict[str, Any], sender: Sender) -> bytes:
    """
    A message with an answer: `{id, response | error, headers}`.

    A Celery sender with the result backend `rpc://` finds the same as the result of its task.
    """
    body: dict[str, Any] = {"id": request_id, **answer}
    if sender.task_id is not None:
        result = dict(body)
        body |= {"task_id": sender.task_id, "status": "SUCCESS", "result": result}
        body |= {"traceback": None, "children": []}
    envelope = {
        "body": base64.b64encode(json.dumps(body).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {},
        "properties": {
            "correlation_id": sender.correlation_id or sender.task_id,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": sender.reply_to},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
        },
    }
    return json.dumps(envelope).encode()


def may_reply_to(name: object, project: str) -> bool:
    """
    Whether a sender of *project* may have its answer put into the queue *name*.

    Not into a queue of ours, and not into the door of another project: a reply there would be a
    request in somebody else's name.
    """
    if not isinstance(name, str) or not _QUEUE_NAME.fullmatch(name):
        return False
    if name in _RESERVED or name.startswith(_RESERVED_STEMS):
        return False
    return not name.startswith(QUEUE_STEM) or name.startswith(f"{queue_of(project)}.")


def _request(sender: Sender, body: dict[str, Any]) -> Request:
    request_id = body.get("id", sender.task_id)
    if request_id is not None and _text(request_id) is None:
        raise Malformed(f"id is no string of 1 to {_MAX_ID_CHARACTERS} characters.", sender)
    asked = {name: value for name, value in body.items() if name != "id"}
    return Request(sender, request_id, asked)


def _content(envelope: dict[str, Any], properties: dict[str, Any], sender: Sender) -> Any:  # noqa: ANN401 - parsed JSON
    if envelope.get("content-type") != "application/json":
        raise Malformed("The content type is not application/json.", sender)
    body = envelope.get("body")
    if properties.get("body_encoding") == "base64" and isinstance(body, str):
        try:
            body = base64.b64decode(body, validate=True)
        except (binascii.Error, ValueError):
            raise Malformed("The body is no base64.", sender) from None
    return body if isinstance(body, dict) else _parsed(body, sender)


def _arguments(content: object, sender: Sender) -> object:
    """The one dict of a Celery task: its only positional argument, or its keywords."""
    if not isinstance(content, list) or len(content) != 3:
        raise Malformed("The body is no [args, kwargs, embed] of a Celery task.", sender)
    args, kwargs, _embed = content
    if isinstance(args, list) and len(args) == 1 and not kwargs:
        return args[0]
    if args:
        raise Malformed("Give one dict as the only argument, or keywords only.", sender)
    return kwargs


def _object(raw: bytes, sender: Sender) -> dict[str, Any]:
    value = _parsed(raw, sender)
    if not isinstance(value, dict):
        raise Malformed("The message is no JSON object.", sender)
    return value


def _parsed(raw: object, sender: Sender) -> Any:  # noqa: ANN401 - parsed JSON
    try:
        assert isinstance(raw, bytes | str)
        return json.loads(raw)
    except (AssertionError, ValueError, RecursionError):
        raise Malformed("The message is no JSON.", sender) from None


def _text(value: object) -> str | None:
    is_short = isinstance(value, str) and 0 < len(value) <= _MAX_ID_CHARACTERS
    return str(value) if is_short and "\0" not in str(value) else None
