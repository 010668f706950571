"""HTTP shapes of events, subscriptions and dead letters."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from services.delivery.domain import full_queue_name, key_prefix
from services.delivery.repository.dead_letters import DeadLetter as Letter
from services.delivery.repository.subscriptions import Subscription as Row
from services.delivery.repository.webhooks import Attempt, Endpoint
from services.delivery.webhook import hint_of, secret_of
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


EventTypes = Annotated[list[str], Field(min_length=1, max_length=100)]


class CreateWebhook(BaseModel):
    """What OpenAI's `webhooks.create` sends."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=200)]
    url: str
    event_types: EventTypes


class UpdateWebhook(BaseModel):
    """What OpenAI's `webhooks.update` sends."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    url: str | None = None
    event_types: EventTypes | None = None


class RotateSecret(BaseModel):
    """What OpenAI's `webhooks.rotate_secret` sends."""

    model_config = ConfigDict(extra="forbid")

    keep_old_secret_active_for_24_hours: bool = False


class SendSample(BaseModel):
    """What OpenAI's `webhooks.test` sends."""

    model_config = ConfigDict(extra="forbid")

    event_type: str


class WebhookEndpoint(BaseModel):
    """OpenAI's webhook endpoint; `disabled_at` is ours: since then nothing is sent to it."""

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    name: str
    url: str
    event_types: list[str]
    signing_secret_hint: str
    created_at: int
    updated_at: int
    disabled_at: int | None

    @classmethod
    def of(cls, row: Endpoint, key: str) -> Self:
        return cls(
            id=row.id,
            name=row.name,
            url=row.url,
            event_types=row.event_types,
            signing_secret_hint=hint_of(secret_of(key, row.id, row.secret_version)),
            created_at=int(row.created_at.timestamp()),
            updated_at=int(row.updated_at.timestamp()),
            disabled_at=int(row.disabled_at.timestamp()) if row.disabled_at else None,
        )


class WebhookWithSecret(WebhookEndpoint):
    """An endpoint as its creation and a rotation show it."""

    signing_secret: str = ""

    @classmethod
    def of(cls, row: Endpoint, key: str) -> Self:
        shown = super().of(row, key)
        secret = secret_of(key, row.id, row.secret_version)
        return shown.model_copy(update={"signing_secret": secret})


class WebhookDeleted(BaseModel):
    """OpenAI's answer to a deletion."""

    id: str
    object: Literal["webhook_endpoint.deleted"] = "webhook_endpoint.deleted"
    deleted: Literal[True] = True


class WebhookSample(BaseModel):
    """How a receiver answered to a sample."""

    object: Literal["webhook_endpoint.test"] = "webhook_endpoint.test"
    event_type: str
    status_code: int
    success: Literal[True] = True
    webhook_endpoint_id: str


class WebhookEventTypes(BaseModel):
    """Names of all events that are ever sent."""

    object: Literal["list"] = "list"
    data: list[str]


class WebhookAttempt(BaseModel):
    """One request to a receiver. What it answered beside its status stays with the operator."""

    id: str
    object: Literal["webhook_attempt"] = "webhook_attempt"
    event_id: str
    event_type: str
    status_code: int | None
    error: str | None
    milliseconds: int
    created_at: int

    @classmethod
    def of(cls, row: Attempt) -> Self:
        assert row.created_at is not None  # it is stored
        return cls(
            id=row.id,
            event_id=row.event_id,
            event_type=row.event_type,
            status_code=row.status,
            error=row.error,
            milliseconds=row.milliseconds,
            created_at=int(row.created_at.timestamp()),
        )
