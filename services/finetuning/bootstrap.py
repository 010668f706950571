"""What a process of finetuning holds once. The only module that knows concrete providers."""

from __future__ import annotations

from functools import cache

from services.finetuning.provider.configuration import Providers, read_providers
from services.finetuning.provider.openai_client import OpenAIProvider
from services.finetuning.provider.ports import Provider
from services.finetuning.provider.step import Desk
from services.finetuning.settings import finetuning_settings
from shared.process import process_blobs, process_settings


@cache
def process_providers() -> Providers:
    """
    The providers of this installation, as its operator wrote them when this process began.

    Raises:
        Invalid: The file cannot be used; the message says where.
    """
    file = finetuning_settings().providers_file
    return read_providers(file or process_settings().secrets_dir / "providers.toml")


@cache
def process_desk() -> Desk:
    """What the steps of jobs at providers work with."""
    settings = finetuning_settings()

    def open_conversation(name: str) -> Provider:
        spec = process_providers().load(name)
        return OpenAIProvider(spec, seconds=settings.provider_step_seconds)

    return Desk(open=open_conversation, blobs=process_blobs(), settings=settings)
