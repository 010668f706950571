"""Sending public events to webhook endpoints: in order, at least once, until they are taken."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from services.delivery import webhook
from services.delivery.domain import Event
from services.delivery.repository import events, webhooks
from services.delivery.repository.webhooks import Attempt, Endpoint, Held
from services.delivery.service.ringing import ACTOR, EVERY_PROJECT
from services.delivery.settings import DeliverySettings
from shared.context import Context
from shared.db import Units
from shared.errors import Invalid, Unavailable
from shared.ids import Project
from shared.logging import get_logger
from shared.outbound import Outbound

log = get_logger(__name__)

# At once, and of one project, whose receivers may all be silent, before others.
_ENDPOINTS, _OF_ONE_PROJECT = 16, 4
_EVENTS = 100
_ANSWER_CHARACTERS = 2_048
# Models are registered by a message behind the one that says a job has succeeded. A receiver that
# asks for the model at once should find it; one that never comes holds up nobody for longer.
_REGISTRATION_SECONDS = 60.0
_LOOK_AGAIN_SECONDS = 0.5


@dataclass(frozen=True)
class Post:
    """
    What the sender works with.

    Attributes:
        units: As the role `spine`, which sees all projects.
        key: Of this installation; the endpoints' secrets are derived from it.
    """

    units: Units
    outbound: Outbound
    key: str
    settings: DeliverySettings


class Posting:
    """Rounds of the sender: each endpoint is served by a thread of its own, beside the rounds."""

    def __init__(self, make_post: Callable[[], Post]) -> None:
        """
        Args:
            make_post: Asked at every round, since a key may come or be replaced.
        """
        self._make_post = make_post
        self._pool = ThreadPoolExecutor(_ENDPOINTS, thread_name_prefix="post")
        self._serving: list[tuple[str, Future[int]]] = []

    @property
    def under_way(self) -> int:
        """Endpoints that are being served."""
        return len(self._serving)

    def round(self) -> int:
        """
        Take up endpoints that have news, as far as there are threads for them.

        A crash between sending and advancing repeats an event under the same id.

        Returns:
            How many events were sent since the round before.

        Raises:
            Unavailable: Postgres is away, or there is no key.
        """
        post = self._make_post()
        ended = [future for _, future in self._serving if future.done()]
        self._serving = [each for each in self._serving if not each[1].done()]
        with post.units.open(EVERY_PROJECT) as uow:
            held = webhooks.hold_with_news(
                uow.session,
                seconds=post.settings.webhook_hold_seconds,
                limit=_ENDPOINTS - len(self._serving),
                of_one_project=_OF_ONE_PROJECT,
                under_way=Counter(project for project, _ in self._serving),
            )
        for one in held:
            future = self._pool.submit(_serve, post, one)
            self._serving.append((one.endpoint.project, future))
        return sum(future.result() for future in ended)


def _serve(post: Post, held: Held) -> int:
    """How many events the endpoint took."""
    # An attempt that begins before this ends before the hold does.
    until = time.monotonic() + post.settings.webhook_hold_seconds / 2
    sent = 0
    for event in _next_events(post, held):
        name = webhook.NAMES.get(event.type)
        if name in held.endpoint.event_types:
            if time.monotonic() > until:
                break
            if not _is_tellable(post, held.endpoint, event):
                _let_go(post, held, _LOOK_AGAIN_SECONDS)
                return sent
            if not _send(post, held, event, str(name)):
                return sent
            sent += 1
        with post.units.open(EVERY_PROJECT) as uow:
            if not webhooks.advance(uow.session, held, event.position):
                return sent
        held = replace(held, cursor=event.position)
    _let_go(post, held, 0.0)
    return sent


def _next_events(post: Post, held: Held) -> list[Event]:
    with post.units.open(EVERY_PROJECT) as uow:
        return events.list_next(uow.session, held.endpoint.project, held.cursor, _EVENTS)


def _is_tellable(post: Post, endpoint: Endpoint, event: Event) -> bool:
    model = event.envelope["data"].get("model_id")
    age = datetime.now(UTC) - datetime.fromisoformat(event.envelope["time"])
    if model is None or age.total_seconds() > _REGISTRATION_SECONDS:
        return True
    with post.units.open(EVERY_PROJECT) as uow:
        return webhooks.is_registered(uow.session, endpoint.project, model)


def _send(post: Post, held: Held, event: Event, name: str) -> bool:
    """Whether the receiver took it; otherwise its next attempt is put off."""
    attempt = _attempt(post, held.endpoint, event, name)
    with post.units.open(EVERY_PROJECT) as uow:
        webhooks.record_attempt(uow.session, held.endpoint, attempt)
    if not attempt.is_success:
        _put_off(post, held)
    return attempt.is_success


def _attempt(post: Post, endpoint: Endpoint, event: Event, name: str) -> Attempt:
    event_id = webhook.told_id(event.envelope)
    happened = datetime.fromisoformat(event.envelope["time"])
    subject = str(event.envelope["subject"])
    body = webhook.body_of(event_id, name, subject, int(happened.timestamp()))
    headers = webhook.headers_of(event_id, body, _secrets(post, endpoint), time.time())
    began = time.monotonic()
    status, answer, error = None, None, None
    try:
        reply = asyncio.run(post.outbound.post(endpoint.url, body, headers))
    except (Invalid, Unavailable) as refused:
        error = refused.message
    else:
        status = reply.status
        answer = reply.body.decode(errors="replace").replace("\0", "")[:_ANSWER_CHARACTERS]
    spent = round((time.monotonic() - began) * 1000)
    return Attempt(event_id, name, status, answer, error, spent)


def _secrets(post: Post, endpoint: Endpoint) -> list[str]:
    versions = [endpoint.secret_version]
    if endpoint.old_secret_until and endpoint.old_secret_until > datetime.now(UTC):
        versions.append(endpoint.secret_version - 1)
    return [webhook.secret_of(post.key, endpoint.id, version) for version in versions]


def _put_off(post: Post, held: Held) -> None:
    settings = post.settings
    with post.units.open(Context.root(Project(held.endpoint.project), ACTOR)) as uow:
        now = webhooks.count_failure(
            uow.session, held, give_up_seconds=settings.webhook_give_up_seconds
        )
        if now is None:
            return
        webhooks.let_go(uow.session, held, after_seconds=webhook.pause_seconds(now.failures))
        if now.disabled_at is not None:
            uow.audit("webhook.disabled", now.id, reason=f"{now.failures} attempts in a row failed")
            log.warning("webhook_disabled", project=now.project, endpoint=now.id)


def _let_go(post: Post, held: Held, after_seconds: float) -> None:
    with post.units.open(EVERY_PROJECT) as uow:
        webhooks.let_go(uow.session, held, after_seconds=after_seconds)
