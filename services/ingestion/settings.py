"""Settings of ingestion."""

from __future__ import annotations

from functools import cache
from typing import Annotated

from annotated_types import Ge, Le
from pydantic_settings import SettingsConfigDict

from shared.settings import BaseServiceSettings


class IngestionSettings(BaseServiceSettings):
    """Limits of uploads."""

    model_config = SettingsConfigDict(env_prefix="PERPETUNE_INGESTION_")

    # OpenAI's own limit for files.
    max_file_bytes: Annotated[int, Ge(1024), Le(8 << 30)] = 512 << 20
    # A training file is checked and counted within one task of at most 15 s, at about 2 MiB/s.
    max_training_file_bytes: Annotated[int, Ge(1024), Le(512 << 20)] = 16 << 20

    # A repeated upload within this time, marked as such by the client, is answered with the first
    # one's file. The openai client gives up a request after 600 s and repeats it twice.
    retry_window_seconds: Annotated[float, Ge(0), Le(86_400)] = 1800.0

    # OpenAI's own limits for uploads in parts; its client sends parts of 64 MiB.
    max_upload_bytes: Annotated[int, Ge(1024), Le(1 << 40)] = 8 << 30
    max_part_bytes: Annotated[int, Ge(1024), Le(1 << 30)] = 64 << 20
    upload_seconds: Annotated[float, Ge(1), Le(604_800)] = 3600.0

    def most_bytes(self, purpose: str, *, in_parts: bool = False) -> int:
        """Largest file of a purpose; training files are small however they arrive."""
        if purpose == "fine-tune":
            return self.max_training_file_bytes
        return self.max_upload_bytes if in_parts else self.max_file_bytes


@cache
def ingestion_settings() -> IngestionSettings:
    """Those of this process."""
    return IngestionSettings()
