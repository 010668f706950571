"""Settings of the room, read once from PERPETUNE_FINETUNING_*."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Le
from pydantic_settings import SettingsConfigDict

from shared.settings import BaseServiceSettings


class FinetuningSettings(BaseServiceSettings):
    """Of the API and of the trainer process."""

    model_config = SettingsConfigDict(env_prefix="PERPETUNE_FINETUNING_")

    # A repeated create within this time, marked as such by the client, is answered with the first
    # job. The openai client gives up a request after 600 s and repeats it twice.
    retry_window_seconds: Annotated[float, Ge(0), Le(86_400)] = 1800.0

    # How often a trainer without work looks for some.
    poll_seconds: Annotated[float, Ge(0.05), Le(60)] = 0.5
    # While a child runs: how often a cancellation is looked for between two of its lines.
    watch_seconds: Annotated[float, Ge(0.05), Le(60)] = 1.0
    # How long a job may be silent before its first step; later the lease's own time counts, or
    # three times the longest silence so far, because a step of long rows may outlast a lease.
    first_step_seconds: Annotated[float, Ge(1), Le(3600)] = 180.0
    # Starts without one new step after which a job is given up.
    max_attempts: Annotated[int, Ge(1), Le(20)] = 3
    # A child told to stop saves its state first. Shorter than the 20 s the trainer itself is given.
    stop_seconds: Annotated[float, Ge(0), Le(600)] = 10.0

    # The child. Answering comes first, so it runs at a lower priority.
    nice: Annotated[int, Ge(0), Le(19)] = 10
    # None is every physical core, and the fastest device present.
    threads: Annotated[int, Ge(1), Le(1024)] | None = None
    device: str | None = None

    # Providers: None is `providers.toml` among the secrets.
    providers_file: Path | None = None
    # A running job is looked at as often as this, a quiet one more and more rarely.
    provider_poll_seconds: Annotated[float, Ge(0.05), Le(60)] = 2.0
    provider_longest_poll_seconds: Annotated[float, Ge(0.05), Le(3600)] = 30.0
    # All calls of one step; the handler is stopped after 15 s.
    provider_step_seconds: Annotated[float, Ge(0.2), Le(13)] = 12.0
    # Larger files cannot be sent within a step: 64 MiB in 12 s are 45 Mbit/s.
    provider_max_file_bytes: Annotated[int, Ge(1024), Le(512 << 20)] = 64 << 20
    # How long a provider may fail without a break before the job is given up: a day in which its
    # operator sets another key, or an outage ends.
    provider_patience_seconds: Annotated[float, Ge(1), Le(2_592_000)] = 86_400.0
    # How long what was made may not be found yet.
    provider_missing_seconds: Annotated[float, Ge(1), Le(86_400)] = 600.0


@cache
def finetuning_settings() -> FinetuningSettings:
    """The settings of this process."""
    return FinetuningSettings()
