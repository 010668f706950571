"""Composition: the model server of this installation, reached on first use."""

from __future__ import annotations

from functools import cache

from services.releases.ports import Serving
from shared.process import process_settings
from shared.serving_client import ServingClient


@cache
def process_serving() -> Serving:
    """A client of the model server that `serving_url` names."""
    return ServingClient(process_settings().serving_url)
