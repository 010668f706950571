"""Composition: the application of this process."""

from __future__ import annotations

from fastapi import FastAPI

from services.gateway.app import make_app
from services.gateway.settings import GatewaySettings
from shared.process import process_settings, process_units, spine_units


def make_process_app(settings: GatewaySettings) -> FastAPI:
    """The gateway on the databases named by the environment."""
    return make_app(process_settings(), settings, units=process_units(), spine=spine_units())
