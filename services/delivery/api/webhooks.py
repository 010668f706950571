"""Webhook endpoints, in OpenAI's shape, and the log of what was sent to them."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from typing import Annotated, cast

from fastapi import APIRouter, Header, Query, Request

from services.delivery import webhook
from services.delivery.bootstrap import delivery_settings, make_outbound, webhook_key
from services.delivery.repository import webhooks as rows
from services.delivery.schemas import (
    CreateWebhook,
    RotateSecret,
    SendSample,
    UpdateWebhook,
    WebhookAttempt,
    WebhookDeleted,
    WebhookEndpoint,
    WebhookEventTypes,
    WebhookSample,
    WebhookWithSecret,
)
from services.delivery.service import webhooks
from services.delivery.service.webhooks import Changes, NewEndpoint
from shared.db import UnitOfWork, Units
from shared.errors import Invalid
from shared.http import Unit, authorised, context_of
from shared.keys import Caller
from shared.pages import Page, page_of

_ATTEMPT = re.compile(r"[0-9]{1,18}")

router = APIRouter(tags=["webhooks"])

Limit = Annotated[int, Query(ge=1, le=100)]
Reader = Annotated[Caller, authorised("events:read")]
Retries = Annotated[int, Header(alias="x-stainless-retry-count", ge=0)]
Writer = Annotated[Caller, authorised("events:write")]


# An address is looked up, and a sample sent, while no connection to the database is held: both may
# take as long as a stranger likes.


@router.post("/v1/webhook_endpoints")
def create_webhook(
    caller: Writer, request: Request, body: CreateWebhook, retries: Retries = 0
) -> WebhookWithSecret:
    """Send events of the project to an address; the answer alone shows the signing secret."""
    key = webhook_key()
    make_outbound(delivery_settings()).look_up(body.url)
    wanted = NewEndpoint(body.name, body.url, body.event_types)
    with _unit(request) as uow:
        made = webhooks.create_endpoint(
            uow,
            wanted,
            most=delivery_settings().webhooks_per_project,
            is_repetition=retries > 0,
        )
    return WebhookWithSecret.of(made, key)


@router.get("/v1/webhook_endpoints")
def list_webhooks(
    caller: Reader, uow: Unit, after: str | None = None, limit: Limit = 20
) -> Page[WebhookEndpoint]:
    """Endpoints of the project, newest first."""
    found = rows.list_from(uow.session, after, limit + 1)
    return page_of([WebhookEndpoint.of(row, webhook_key()) for row in found], limit)


@router.get("/v1/webhook_endpoints/{endpoint_id}")
def retrieve_webhook(caller: Reader, uow: Unit, endpoint_id: str) -> WebhookEndpoint:
    """One endpoint."""
    return WebhookEndpoint.of(webhooks.load_endpoint(uow, endpoint_id), webhook_key())


@router.post("/v1/webhook_endpoints/{endpoint_id}")
def update_webhook(
    caller: Writer, request: Request, endpoint_id: str, body: UpdateWebhook
) -> WebhookEndpoint:
    """Change an endpoint; one that was disabled is tried again."""
    key = webhook_key()
    if body.url is not None:
        make_outbound(delivery_settings()).look_up(body.url)
    changes = Changes(body.name, body.url, body.event_types)
    with _unit(request) as uow:
        changed = webhooks.update_endpoint(uow, endpoint_id, changes)
    return WebhookEndpoint.of(changed, key)


@router.delete("/v1/webhook_endpoints/{endpoint_id}")
def delete_webhook(caller: Writer, uow: Unit, endpoint_id: str) -> WebhookDeleted:
    """Send nothing more to an endpoint."""
    webhooks.delete_endpoint(uow, endpoint_id)
    return WebhookDeleted(id=endpoint_id)


@router.post("/v1/webhook_endpoints/{endpoint_id}/rotate_secret")
def rotate_secret(
    caller: Writer,
    uow: Unit,
    endpoint_id: str,
    body: RotateSecret | None = None,
    retries: Retries = 0,
) -> WebhookWithSecret:
    """Sign with another secret; the old one is valid for a day more if that is asked for."""
    keep_old = body is not None and body.keep_old_secret_active_for_24_hours
    changed = webhooks.rotate_secret(uow, endpoint_id, keep_old=keep_old, is_repetition=retries > 0)
    return WebhookWithSecret.of(changed, webhook_key())


@router.post("/v1/webhook_endpoints/{endpoint_id}/test")
def send_sample(
    caller: Writer, request: Request, endpoint_id: str, body: SendSample
) -> WebhookSample:
    """Send an event that did not happen, and say what was answered."""
    with _unit(request) as uow:
        endpoint = webhooks.load_endpoint(uow, endpoint_id)
    status = webhooks.send_sample(
        make_outbound(delivery_settings()), endpoint, webhook_key(), body.event_type
    )
    return WebhookSample(
        event_type=body.event_type, status_code=status, webhook_endpoint_id=endpoint_id
    )


@router.get("/v1/webhook_event_types")
def list_event_types(caller: Reader) -> WebhookEventTypes:
    """All that is ever sent."""
    return WebhookEventTypes(data=list(webhook.TYPES))


@router.get("/api/v1/webhook-endpoints/{endpoint_id}/attempts")
def list_attempts(
    caller: Reader, uow: Unit, endpoint_id: str, after: str | None = None, limit: Limit = 20
) -> Page[WebhookAttempt]:
    """What was sent to an endpoint and how it answered, latest first."""
    webhooks.load_endpoint(uow, endpoint_id)
    if after is not None and not _ATTEMPT.fullmatch(after):
        raise Invalid(f"There is no attempt '{after}'.", code="unknown_cursor", param="after")
    found = rows.list_attempts(uow.session, endpoint_id, after, limit + 1)
    return page_of([WebhookAttempt.of(row) for row in found], limit)


def _unit(request: Request) -> AbstractContextManager[UnitOfWork]:
    return cast("Units", request.app.state.units).open(context_of(request))
