"""The first project and its first key: `python -m services.gateway.first_key`.

The key is written to `secrets_dir/api_key` (mode 0600) and its address printed, not the key.
"""

from __future__ import annotations

import os
from pathlib import Path

from services.gateway import repository
from shared.context import Context
from shared.db import Units
from shared.errors import Invalid
from shared.ids import Project
from shared.keys import mac_of, new_key
from shared.process import process_secret, process_settings, process_units
from shared.rotation import Values
from shared.scopes import SCOPES

DEFAULT_PROJECT = Project("default")


def ensure_first_key(units: Units, pepper: Values, file: Path) -> str:
    """
    Make the project `default` and a key with every scope, unless both are there.

    The file comes first and the row is made from it, so that a crash in between, or a fresh
    database beside old secrets, is repaired by the next call. A revoked key stays revoked.

    Args:
        units: Of the role `app`.
        pepper: Keys of the HMAC under which API keys are stored.
        file: Where the key is kept, readable by its owner only.

    Returns:
        The key.

    Raises:
        Invalid: The file holds something else.
    """
    key = _read_or_write(file)
    parts = key.split("_")
    if len(parts) != 3 or parts[0] != "ppt":
        raise Invalid(
            f"{file} holds no API key; remove it and run this again.", code="invalid_key_file"
        )
    with units.open(Context.root(DEFAULT_PROJECT, "process:first_key")) as uow:
        repository.insert_project(uow.session, uow.project)
        is_new = repository.insert_key(
            uow.session,
            uow.project,
            key_id=parts[1],
            name="first key",
            mac=mac_of(key, pepper.current),
            pepper=pepper.fingerprint,
            scopes=SCOPES,
            created_by=uow.context.actor,
            expires_at=None,
        )
        if is_new:
            uow.audit("key.created", parts[1], reason="first key of the installation")
    return key


def _read_or_write(file: Path) -> str:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode=0o600)
    except FileExistsError:
        return file.read_text(encoding="utf-8").strip()
    with os.fdopen(descriptor, "w") as new:
        key = new_key()[1]
        new.write(key + "\n")
    return key


def main() -> None:
    """Make sure of the key and say where it is."""
    settings = process_settings()
    file = settings.secrets_dir / "api_key"
    ensure_first_key(process_units(), process_secret("api_key_pepper").values, file)
    print(file)  # noqa: T201 - the command's answer


if __name__ == "__main__":
    main()
