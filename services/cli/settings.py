"""Settings of the terminal door."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Le
from pydantic import SecretStr

from shared.settings import BaseServiceSettings


class CliSettings(BaseServiceSettings):
    """Where the API is; without an entry, the local stack's address and first key."""

    url: str | None = None
    api_key: SecretStr | None = None

    # An answer waits behind training on a small machine; the doors give up after 60 s.
    request_timeout_seconds: Annotated[float, Ge(1), Le(600)] = 75.0
