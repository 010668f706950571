"""What a process holds once: settings, engines, the blob store. Made on first use."""

from __future__ import annotations

from functools import cache

from shared.blobs import BlobStore, make_blob_store
from shared.db import Units, make_engine
from shared.rotation import RotatingSecret
from shared.settings import CoreSettings


@cache
def process_settings() -> CoreSettings:
    """The core settings of this process, read from its environment once."""
    return CoreSettings()


@cache
def process_units() -> Units:
    """Units of work as the role `app`, under row-level security."""
    settings = process_settings()
    return Units(make_engine(settings.database_app_url, settings))


@cache
def spine_units() -> Units:
    """Units of work as the role `spine`: the spine tables and snapshots of all projects."""
    settings = process_settings()
    return Units(make_engine(settings.database_spine_url, settings, pool=3))


@cache
def process_secret(name: str) -> RotatingSecret:
    """
    A secret that may be replaced while this process runs.

    Raises:
        Missing: See `CoreSettings.rotating_secret`.
        Invalid: As above.
    """
    return process_settings().rotating_secret(name)


@cache
def process_blobs() -> BlobStore:
    """The blob store of this installation."""
    return make_blob_store(process_settings().blobs_url)
