"""Messages that nobody can answer: from a list in Redis into `spine.dead_letters`.

They are parted from their queue in Redis alone, in one step. From there they go to Postgres when it
is there; until then they wait. What a letter is made of was noted when it was buried: a message
that kills doors is not read again.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from services.inference.door.messages import queue_of
from shared.context import Context
from shared.contracts.envelope import Envelope
from shared.db import UnitOfWork, Units
from shared.errors import Unavailable
from shared.ids import Project, uuid7
from shared.logging import get_logger
from shared.spine import dead_letters

_log = get_logger(__name__)
# Enough to see what it is; a page of letters is read as a whole.
_KEPT_BYTES = 64 << 10
_ACTOR = "process:door"


@dataclass(frozen=True, slots=True)
class Letter:
    """
    A message with what is known about its end.

    Attributes:
        id: Told to nobody before it is recorded, and the same in every attempt to record it.
        starts: How often it was tried.
        raw: The message, byte for byte.
    """

    id: uuid.UUID
    project: Project
    reason: str
    starts: int
    raw: bytes

    @classmethod
    def decode(cls, entry: bytes) -> Letter:
        """The letter of a heading with the message behind it."""
        line, _, raw = entry.partition(b"\n")
        known = json.loads(line)
        return cls(
            uuid.UUID(known["id"]), Project(known["project"]), known["reason"], known["starts"], raw
        )


def heading(project: str, reason: str, starts: int) -> bytes:
    """What is put before the message of a new letter: a line of JSON with an id of its own."""
    known = {"id": str(uuid7()), "project": project, "reason": reason, "starts": starts}
    return json.dumps(known).encode() + b"\n"


class DeadLetters:
    """Records letters of all projects."""

    def __init__(self, spine: Units) -> None:
        """
        Args:
            spine: Units of the role `spine`.
        """
        self._spine = spine

    async def record(self, letter: Letter) -> bool:
        """Whether the letter is in Postgres now; once is enough, and more often no harm."""
        try:
            await asyncio.to_thread(self._record, letter)
        except (Unavailable, SQLAlchemyError) as error:
            _log.warning("door_letter_waits", letter=str(letter.id), error=type(error).__name__)
            return False
        return True

    def _record(self, letter: Letter) -> None:
        with self._spine.open(Context.root(letter.project, _ACTOR)) as uow:
            dead_letters.record(
                uow,
                letter.id,
                queue=queue_of(letter.project),
                task="inference.generate",
                envelope=_sealed(uow, letter),
                reason=letter.reason,
                starts=letter.starts,
            )


def _sealed(uow: UnitOfWork, letter: Letter) -> Envelope:
    """An envelope of no catalogue: it is shown, and never delivered."""
    return Envelope(
        id=f"evt_{letter.id.hex}",
        type="inference.buried.v1",
        source=f"perpetune/{_ACTOR}",
        subject=str(letter.id),
        time=uow.now,
        project=letter.project,
        correlationid=uow.context.correlation_id,
        causationid=uow.context.causation_id,
        data=_content(letter.raw),
    )


def _content(raw: bytes) -> dict[str, Any]:
    kept = raw[:_KEPT_BYTES]
    shown, encoding = _shown(kept)
    return {
        "message": shown,
        "encoding": encoding,
        "bytes": len(raw),
        "sha256": hashlib.sha256(raw).hexdigest(),
        "is_whole": len(kept) == len(raw),
    }


def _shown(kept: bytes) -> tuple[str, str]:
    try:
        text = kept.decode()
    except UnicodeDecodeError:
        text = "\0"
    # Postgres stores no NUL in JSON.
    return (base64.b64encode(kept).decode(), "base64") if "\0" in text else (text, "utf-8")
