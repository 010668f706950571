"""Webhook endpoints, as their project sees them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from services.delivery import webhook
from services.delivery.repository import webhooks
from services.delivery.repository.webhooks import Endpoint
from shared.db import UnitOfWork
from shared.errors import Invalid, Missing, QuotaExceeded, Unavailable
from shared.ids import new_id
from shared.outbound import Outbound

_KEEP_OLD_SECONDS = 86_400.0
# The openai client gives up a request after 600 s and repeats it twice.
_RETRY_SECONDS = 1_800.0


@dataclass(frozen=True, slots=True)
class NewEndpoint:
    """
    Attributes:
        name: For people.
        url: Where to; it has been looked up.
        event_types: OpenAI's names.
    """

    name: str
    url: str
    event_types: list[str]


@dataclass(frozen=True, slots=True)
class Changes:
    """What to change of an endpoint; None leaves it as it is."""

    name: str | None = None
    url: str | None = None
    event_types: Sequence[str] | None = None


def create_endpoint(
    uow: UnitOfWork, wanted: NewEndpoint, *, most: int, is_repetition: bool = False
) -> Endpoint:
    """
    Tell a receiver outside of the project's events from now on.

    A request the client marks as repeated gets the endpoint it made before.

    Args:
        uow: Of the project.
        wanted: The endpoint.
        most: Endpoints a project may have.
        is_repetition: The client says that it sent this before.

    Raises:
        Invalid: We never send such an event.
        QuotaExceeded: The project has *most* endpoints.
    """
    check_types(wanted.event_types)
    if is_repetition:
        twin = webhooks.find_twin(
            uow.session, wanted.name, wanted.url, wanted.event_types, _RETRY_SECONDS
        )
        if twin is not None:
            return twin
    if len(webhooks.list_from(uow.session, None, most)) >= most:
        raise QuotaExceeded(
            f"This project has {most} webhook endpoints already; delete one.",
            code="too_many_webhooks",
        )
    made = new_id("we_")
    webhooks.insert(uow.session, uow.project, made, wanted.name, wanted.url, wanted.event_types)
    uow.audit("webhook.created", made, facts={"event_types": wanted.event_types})
    return load_endpoint(uow, made)


def load_endpoint(uow: UnitOfWork, endpoint_id: str) -> Endpoint:
    """
    Raises:
        Missing: The project has no such endpoint.
    """
    found = webhooks.find(uow.session, endpoint_id)
    if found is None:
        raise Missing(
            f"There is no webhook endpoint '{endpoint_id}'.",
            code="webhook_endpoint_not_found",
            param="webhook_endpoint_id",
        )
    return found


def update_endpoint(uow: UnitOfWork, endpoint_id: str, changes: Changes) -> Endpoint:
    """
    Change an endpoint; one that was disabled gets its events again, those it missed first.

    Args:
        uow: Of the project.
        endpoint_id: Of the endpoint.
        changes: A URL in it has been looked up.

    Raises:
        Missing: The project has no such endpoint.
        Invalid: We never send such an event.
    """
    load_endpoint(uow, endpoint_id)
    if changes.event_types is not None:
        check_types(changes.event_types)
    webhooks.update(
        uow.session, endpoint_id, name=changes.name, url=changes.url, types=changes.event_types
    )
    uow.audit("webhook.changed", endpoint_id)
    return load_endpoint(uow, endpoint_id)


def rotate_secret(
    uow: UnitOfWork, endpoint_id: str, *, keep_old: bool, is_repetition: bool = False
) -> Endpoint:
    """
    Sign with another secret from now on, and for a day with the old one as well if that is kept.

    A request the client marks as repeated gets the secret it made before.

    Raises:
        Missing: The project has no such endpoint.
    """
    endpoint = load_endpoint(uow, endpoint_id)
    if is_repetition and endpoint.rotated_at is not None:
        age = (uow.now - endpoint.rotated_at).total_seconds()
        if age < _RETRY_SECONDS:
            return endpoint
    keep = _KEEP_OLD_SECONDS if keep_old else 0.0
    webhooks.rotate(uow.session, endpoint_id, keep_old_seconds=keep)
    uow.audit("webhook.secret_rotated", endpoint_id, facts={"keep_old": keep_old})
    return load_endpoint(uow, endpoint_id)


def delete_endpoint(uow: UnitOfWork, endpoint_id: str) -> None:
    """
    Send nothing more, and forget what was sent.

    Raises:
        Missing: The project has no such endpoint.
    """
    load_endpoint(uow, endpoint_id)
    webhooks.delete(uow.session, endpoint_id)
    uow.audit("webhook.deleted", endpoint_id)


def send_sample(outbound: Outbound, endpoint: Endpoint, key: str, event_type: str) -> int:
    """
    Send an event that did not happen, now.

    Returns:
        The status the receiver answered with.

    Raises:
        Invalid: We never send such an event, or the receiver did not answer.
    """
    check_types([event_type])
    event_id = new_id("evt_")
    body = webhook.body_of(event_id, event_type, "ftjob-sample", int(time.time()))
    secret = webhook.secret_of(key, endpoint.id, endpoint.secret_version)
    headers = webhook.headers_of(event_id, body, [secret], time.time())
    try:
        return asyncio.run(outbound.post(endpoint.url, body, headers)).status
    except Unavailable as silent:
        # A 5xx would be repeated by the client, each time for the whole patience.
        raise Invalid(silent.message, code="webhook_unreachable", param="url") from silent


def check_types(event_types: Sequence[str]) -> None:
    """
    Raises:
        Invalid: One of them is no event we ever send.
    """
    if unknown := sorted(set(event_types) - webhook.TYPES.keys()):
        raise Invalid(
            f"No event {', '.join(unknown)} is ever sent here. There are: "
            f"{', '.join(webhook.TYPES)}.",
            code="unknown_event_type",
            param="event_types",
        )
