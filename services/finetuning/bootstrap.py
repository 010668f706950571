"""What a process of finetuning holds once. The only module that knows concrete providers."""

from __future__ import annotations

from functools import cache

from services.finetuning.provider.configuration import Providers, ProviderSpec, read_providers
from services.finetuning.provider.openai_client import OpenAIProvider
from services.finetuning.provider.ports import Provider
from services.finetuning.provider.step import Desk
from services.finetuning.settings import finetuning_settings
from shared.errors import Invalid, Unavailable
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
        return OpenAIProvider(_load_spec(name), seconds=settings.provider_step_seconds)

    return Desk(open=open_conversation, blobs=process_blobs(), settings=settings)


def _load_spec(name: str) -> ProviderSpec:
    """
    Raises:
        Unavailable: There is no such provider, or the file cannot be used. That is its operator's
            to mend while jobs wait, and owners of jobs are not told where it lies.
    """
    try:
        return process_providers().load(name)
    except Invalid as error:
        raise Unavailable(
            "The providers of this installation cannot be read; its operator has to mend "
            "providers.toml.",
            code="provider_not_configured",
        ) from error
