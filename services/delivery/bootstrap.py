"""Composition: settings to adapters."""

from __future__ import annotations

from functools import cache

from redis import Redis

from services.delivery.adapters.celery_bell import CeleryBell
from services.delivery.adapters.kombu_queues import KombuQueues
from services.delivery.settings import DeliverySettings
from shared.broker import celery_settings, make_celery
from shared.settings import CoreSettings


def make_bell(settings: CoreSettings) -> CeleryBell:
    """The bell on the bus of *settings*."""
    redis = Redis.from_url(settings.bus_url, socket_timeout=5, socket_connect_timeout=5)
    return CeleryBell(make_celery(settings), redis, settings.broker_prefix)


def make_queues(settings: CoreSettings) -> KombuQueues:
    """The subscribers' queues on the bus of *settings*."""
    options = celery_settings(settings)["broker_transport_options"]
    return KombuQueues(settings.bus_url, settings.broker_prefix, options)


@cache
def delivery_settings() -> DeliverySettings:
    """The settings of this room, read from the environment once."""
    return DeliverySettings()
