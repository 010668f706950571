"""What is remembered of an answered request, and how it is written to the spool."""

from __future__ import annotations

import hashlib
import hmac
import json
import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from services.inference.domain.routing import Arm

Door = Literal["http", "queue"]


@dataclass(frozen=True, slots=True)
class Content:
    """What was said; kept only where the workload's policy says so."""

    messages: list[dict[str, Any]]
    answer: str


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
    """

    boot: str
    counter: int
    record: Record
    content: Content | None

    def encode(self) -> bytes:
        body = {
            "boot": self.boot,
            "counter": self.counter,
            "record": asdict(self.record),
            "content": None if self.content is None else asdict(self.content),
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
            content = body["content"]
            line = cls(
                boot=body["boot"],
                counter=body["counter"],
                record=Record(**body["record"]),
                content=None if content is None else Content(**content),
            )
            _ = line.at
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError("not a line of the spool") from error
        return line

    @property
    def at(self) -> datetime:
        """The instant inside the UUIDv7 of the request."""
        milliseconds = uuid.UUID(self.record.request).int >> 80
        return datetime.fromtimestamp(milliseconds / 1000, UTC)


def hash_unit(key: bytes, project: str, unit: str) -> str:
    """The unit of assignment without the name of a person in it: 64 bits, hexadecimal."""
    return hmac.new(key, f"{project}\0{unit}".encode(), hashlib.sha256).hexdigest()[:16]
