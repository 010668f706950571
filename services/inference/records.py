"""What is remembered of an answered request, and how it is written to the spool."""

from __future__ import annotations

import hashlib
import hmac
import json
import uuid
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from services.inference.domain.routing import Arm
from shared.ids import instant_of

Door = Literal["http", "queue", "batch"]


@dataclass(frozen=True, slots=True)
class Content:
    """What was said; kept only where the workload's policy says so."""

    messages: list[dict[str, Any]]
    answer: str


@dataclass(frozen=True, slots=True)
class StoredCompletion:
    """
    A chat that its caller asked to keep, whatever the workload's policy says.

    Attributes:
        asked_model: The name the request was sent to.
        completion: The whole answer, as it was given.
    """

    asked_model: str
    messages: list[dict[str, Any]]
    completion: dict[str, Any]
    metadata: dict[str, str] | None


@dataclass(frozen=True, slots=True)
class Record:
    """
    One answered request.

    Attributes:
        request: UUIDv7 in hex; its time is the record's time.
        assigned_release: The release the request counts for, whoever answered.
        model: The model that answered.
        status: `error` only where the serving side failed; a refused request has no record.
        latency_ms: From admission to the last byte made, in milliseconds.
        unit_hash: Keyed hash of the unit of assignment.
    """

    project: str
    request: str
    inference_id: str
    workload_id: str | None
    assigned_release: str | None
    arm: Arm
    model: str
    status: Literal["ok", "error"]
    error_code: str | None
    fallback: bool
    cached: bool
    latency_ms: float
    input_tokens: int
    output_tokens: int
    unit_hash: str
    door: Door


@dataclass(frozen=True, slots=True)
class Line:
    """
    A line of the spool.

    Attributes:
        boot: UUID of the process that wrote it, in hex.
        counter: Number of the record within that process, from 0.
        stored: Lines of release 0.1.0 have none; it reads over it.
    """

    boot: str
    counter: int
    record: Record
    content: Content | None
    stored: StoredCompletion | None = None

    def encode(self) -> bytes:
        body = {
            "boot": self.boot,
            "counter": self.counter,
            "record": asdict(self.record),
            "content": None if self.content is None else asdict(self.content),
            "stored": None if self.stored is None else asdict(self.stored),
        }
        return json.dumps(body, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def decode(cls, raw: bytes) -> Line:
        """
        Raises:
            ValueError: This is no line that `encode` wrote.
        """
        try:
            body = json.loads(raw)
            content, stored = body["content"], body.get("stored")
            line = cls(
                boot=body["boot"],
                counter=body["counter"],
                record=Record(**body["record"]),
                content=None if content is None else Content(**content),
                stored=None if stored is None else StoredCompletion(**stored),
            )
            _ = line.at
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError("not a line of the spool") from error
        return line

    @property
    def at(self) -> datetime:
        """The instant inside the UUIDv7 of the request."""
        return instant_of(uuid.UUID(self.record.request))


def hash_unit(key: bytes, project: str, unit: str) -> str:
    """The unit of assignment without the name of a person in it: 64 bits, hexadecimal."""
    return hmac.new(key, f"{project}\0{unit}".encode(), hashlib.sha256).hexdigest()[:16]
