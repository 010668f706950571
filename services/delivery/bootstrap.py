"""Composition: settings to adapters."""

from __future__ import annotations

import re
from functools import cache

from redis import Redis

from services.delivery.adapters.celery_bell import CeleryBell
from services.delivery.adapters.kombu_queues import KombuQueues
from services.delivery.service.posting import Post
from services.delivery.settings import DeliverySettings
from shared.audit.note import Signer
from shared.audit.sealing import Sealer
from shared.audit.witness import Witness
from shared.broker import celery_settings, make_celery
from shared.db import Units
from shared.errors import Invalid, Missing, Unavailable
from shared.outbound import Outbound
from shared.process import process_settings
from shared.settings import CoreSettings


def make_bell(settings: CoreSettings) -> CeleryBell:
    """The bell on the bus of *settings*."""
    redis = Redis.from_url(
        settings.bus_url,
        socket_timeout=settings.bus_timeout_seconds,
        socket_connect_timeout=settings.bus_connect_timeout_seconds,
    )
    return CeleryBell(make_celery(settings), redis, settings.broker_prefix)


def make_queues(settings: CoreSettings) -> KombuQueues:
    """The subscribers' queues on the bus of *settings*."""
    options = celery_settings(settings)["broker_transport_options"]
    return KombuQueues(settings.bus_url, settings.broker_prefix, options)


def make_sealer(units: Units, core: CoreSettings, settings: DeliverySettings) -> Sealer:
    """
    The sealer of all audit logs.

    Raises:
        Missing: There is no key to sign with.
        Invalid: What is there is no key.
    """
    secret = core.secret("audit_key").get_secret_value()
    if not re.fullmatch("[0-9a-f]{64}", secret):
        raise Invalid(
            "The secret 'audit_key' has to be 64 hexadecimal digits.", code="invalid_audit_key"
        )
    signer = Signer(settings.audit_name, bytes.fromhex(secret))
    return Sealer(units, signer, Witness(settings.audit_witness or core.home / "witness"))


def make_outbound(settings: DeliverySettings) -> Outbound:
    """Where webhooks may go."""
    return Outbound([host for host in settings.webhook_hosts.split(",") if host])


def make_post(units: Units, settings: DeliverySettings) -> Post:
    """
    What the sender of webhooks works with.

    Raises:
        Unavailable: There is no key to derive secrets from.
    """
    return Post(units, make_outbound(settings), webhook_key(), settings)


def webhook_key() -> str:
    """
    The key that the endpoints' secrets are derived from, as it is now.

    Raises:
        Unavailable: There is none.
    """
    try:
        return process_settings().secret("webhook_key").get_secret_value()
    except Missing as error:
        raise Unavailable(
            "Webhooks are not set up on this server: its operator has to make 'webhook_key'.",
            code="webhooks_not_ready",
        ) from error


@cache
def delivery_settings() -> DeliverySettings:
    """The settings of this room, read from the environment once."""
    return DeliverySettings()
