"""
Providers, as the operator writes them into `providers.toml`, outside the database.

    [openai]
    base_url = "https://api.openai.com/v1"
    key = "sk-..."        # or key_file = "openai_key", beside this file; or key_variable = "NAME"
    models = ["gpt-4.1-mini-2025-04-14"]

The file, and the file of a key, are for their owner alone (mode 0600).
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from annotated_types import Len
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError, field_validator
from pydantic import model_validator as validator

from shared.errors import Invalid, Unavailable

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_MAX_BYTES = 1 << 20
_FOR_OTHERS = 0o077


class ProviderSpec(BaseModel):
    """
    One provider.

    Attributes:
        name: What stands before the slash in the `model` of a job.
        base_url: Of its API. Trusted: private addresses and plain HTTP are the operator's choice.
        models: What it may be asked to train; models made by a project's own jobs come on top.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    folder: Path
    base_url: str
    models: Annotated[tuple[Annotated[str, Len(1, 200)], ...], Len(1, 1000)]
    key: SecretStr | None = None
    key_file: Path | None = None
    key_variable: str | None = None

    @field_validator("base_url")
    @classmethod
    def _is_address(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
            raise ValueError("base_url must be an http or https URL with a host and without a user")
        return url

    @validator(mode="after")
    def _has_one_key(self) -> Self:
        given = [self.key, self.key_file, self.key_variable]
        if sum(place is not None for place in given) != 1:
            raise ValueError("give exactly one of key, key_file and key_variable")
        return self

    def read_key(self) -> str:
        """
        The key, read anew each time, so that it can be replaced while we run.

        Raises:
            Unavailable: It is not where the configuration says, or others may read its file.
        """
        if self.key is not None:
            return self.key.get_secret_value()
        if self.key_variable is not None:
            found = os.environ.get(self.key_variable, "")
        else:
            assert self.key_file is not None, "one of the three is given"
            found = self._read_key_file(self.folder / self.key_file)
        if not found:
            place = self.key_variable or self.key_file
            raise self._without_key(f"is not in {place}")
        return found

    def _read_key_file(self, file: Path) -> str:
        try:
            return _read_private(file).strip()
        except (OSError, Invalid) as error:
            raise self._without_key(f"cannot be read: {type(error).__name__}") from error

    def _without_key(self, why: str) -> Unavailable:
        return Unavailable(
            f"The key of the provider '{self.name}' {why}; its operator has to set it.",
            code="provider_key_missing",
        )


@dataclass(frozen=True)
class Providers:
    """All that are configured, by name."""

    specs: Mapping[str, ProviderSpec]

    def of_model(self, model: str) -> tuple[ProviderSpec, str] | None:
        """The provider that *model* names, `<provider>/<model>`, and the model as it calls it."""
        name, slash, remote = model.partition("/")
        spec = self.specs.get(name)
        return (spec, remote) if spec and slash and remote else None

    def load(self, name: str) -> ProviderSpec:
        """
        Raises:
            Unavailable: No provider is called so (any more).
        """
        spec = self.specs.get(name)
        if spec is None:
            raise Unavailable(
                f"No provider '{name}' is configured here; the operator writes it into "
                "providers.toml.",
                code="provider_not_configured",
            )
        return spec


def read_providers(file: Path) -> Providers:
    """
    The providers in *file*; none when there is no such file.

    Raises:
        Invalid: Others may read the file, or it is not what it should be. The message names the
            place and quotes nothing.
    """
    try:
        tables = tomllib.loads(_read_private(file))
    except FileNotFoundError:
        return Providers({})
    except OSError as error:
        raise _refused(file, f"it cannot be opened ({type(error).__name__})") from None
    except tomllib.TOMLDecodeError as error:
        raise _refused(file, f"it is no TOML: {error}") from None
    return Providers({name: _spec(file, name, table) for name, table in tables.items()})


def _spec(file: Path, name: str, table: Any) -> ProviderSpec:  # noqa: ANN401 - of any TOML
    if not _NAME.fullmatch(name) or not isinstance(table, dict):
        raise _refused(file, "a provider is a table named with a-z, 0-9, '-' and '_'")
    try:
        return ProviderSpec(**{**table, "name": name, "folder": file.parent})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in (name, *first["loc"]))
        raise _refused(file, f"{where}: {first['msg']}") from None


def _read_private(file: Path) -> str:
    with file.open("rb") as opened:
        if os.fstat(opened.fileno()).st_mode & _FOR_OTHERS:
            raise _refused(file, "others may read it; give it the mode 0600")
        return opened.read(_MAX_BYTES).decode(errors="replace")


def _refused(file: Path, why: str) -> Invalid:
    return Invalid(f"{file} cannot be used: {why}.", code="invalid_providers")
