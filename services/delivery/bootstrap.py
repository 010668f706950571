"""Composition: settings to adapters."""

from __future__ import annotations

import re
from functools import cache

from redis import Redis

from services.delivery.adapters.celery_bell import CeleryBell
from services.delivery.adapters.kombu_queues import KombuQueues
from services.delivery.settings import DeliverySettings
from shared.audit.note import Signer
from shared.audit.sealing import Sealer
from shared.audit.witness import Witness
from shared.broker import celery_settings, make_celery
from shared.db import Units
from shared.errors import Invalid
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


@cache
def delivery_settings() -> DeliverySettings:
    """The settings of this room, read from the environment once."""
    return DeliverySettings()
