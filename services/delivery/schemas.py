"""HTTP shapes of events, subscriptions and dead letters."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from services.delivery.domain import full_queue_name, key_prefix
from services.delivery.repository.dead_letters import DeadLetter as Letter
from services.delivery.repository.subscriptions import Subscription as Row
from shared.contracts.envelope import Envelope


class CreateSubscription(BaseModel):
    """Asks for the project's public events in a queue of the bus."""

    model_config = ConfigDict(extra="forbid")

    queue: str
    types: list[str] = Field(default=[], max_length=100, description="Empty means all.")


class Broker(BaseModel):
    """What a kombu program needs beside the address of the bus, which the operator gives out."""

    queue: str
    global_keyprefix: str
    content_type: Literal["application/json"] = "application/json"


class Subscription(BaseModel):
    """Public events, pushed into a queue at least once and in order."""

    id: str
    object: Literal["subscription"] = "subscription"
    queue: str
    types: list[str]
    created_at: int
    broker: Broker

    @classmethod
    def of(cls, row: Row, broker_prefix: str) -> Self:
        return cls(
            id=row.id,
            queue=row.queue,
            types=row.types,
            created_at=int(row.created_at.timestamp()),
            broker=Broker(
                queue=full_queue_name(row.project, row.queue),
                global_keyprefix=key_prefix(broker_prefix, row.project),
            ),
        )


class Deleted(BaseModel):
    """Something is gone."""

    id: str
    object: Literal["subscription"] = "subscription"
    deleted: Literal[True] = True


class DeadLetter(BaseModel):
    """A message that was given up."""

    id: str
    object: Literal["dead_letter"] = "dead_letter"
    queue: str
    task: str
    # What could not be read is shown as it was stored.
    event: Annotated[Envelope | JsonValue, Field(union_mode="left_to_right")]
    reason: str
    last_error: str | None
    attempts: int
    created_at: int
    buried_at: int

    @classmethod
    def of(cls, letter: Letter) -> Self:
        return cls(
            id=letter.id,
            queue=letter.queue,
            task=letter.task,
            event=letter.stored,
            reason=letter.reason,
            last_error=letter.last_error,
            attempts=letter.starts,
            created_at=int(letter.created_at.timestamp()),
            buried_at=int(letter.buried_at.timestamp()),
        )


class Replayed(BaseModel):
    """The dead letter is due again under a new delivery id."""

    id: str
    object: Literal["delivery"] = "delivery"
    dead_letter: str


class Discard(BaseModel):
    """Gives a dead letter up for good."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=1, max_length=300, description="Kept in the audit log.")


class Discarded(BaseModel):
    """The dead letter is gone; the audit log has what it was."""

    id: str
    object: Literal["dead_letter"] = "dead_letter"
    discarded: Literal[True] = True


def events_of(envelopes: list[dict[str, Any]]) -> list[Envelope]:
    """CloudEvents from what the feed holds."""
    return [Envelope.model_validate(envelope) for envelope in envelopes]
