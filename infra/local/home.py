"""The home folder of a local stack: its layout and its secrets."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from shared.errors import Conflict

# sun_path of a Unix socket holds 104 bytes on the BSDs and 108 on Linux.
_SOCKET_PATH_BYTES = 100

# Made once, 32 random bytes each: passwords of the database roles and of the two Valkeys, the key
# of the HMAC under which API keys are stored, and the keys that sign receipts, audit logs and
# webhooks.
SECRETS = (
    "postgres_password",
    "app_password",
    "spine_password",
    "bus_password",
    "cache_password",
    "api_key_pepper",
    "receipt_key",
    "audit_key",
    "webhook_key",
)


@dataclass(frozen=True)
class Home:
    """
    Folders and files below `PERPETUNE_HOME`.

    Attributes:
        root: Absolute path of the home.
    """

    root: Path

    @classmethod
    def at(cls, path: Path) -> Home:
        return cls(path.expanduser().resolve())

    @property
    def postgres(self) -> Path:
        return self.root / "postgres"

    @property
    def blobs(self) -> Path:
        return self.root / "blobs"

    @property
    def secrets(self) -> Path:
        return self.root / "secrets"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """Generated configuration; written anew at every start."""
        return self.root / "run"

    @property
    def imports(self) -> Path:
        """Fine-tunes of other services, a folder each; made by the terminal door."""
        return self.root / "imports"

    @property
    def supervisor_socket(self) -> Path:
        """Control socket of the supervisor; in the temporary folder where the home is too deep."""
        inside = self.run / "supervisor.sock"
        if len(os.fsencode(inside)) <= _SOCKET_PATH_BYTES:
            return inside
        name = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"perpetune-{os.getuid()}-{name}.sock"

    def data(self, server: str) -> Path:
        """Working folder of the bus or the cache."""
        return self.root / server

    def create(self) -> None:
        """Make what is missing; what is there stays as it is."""
        self.root.mkdir(parents=True, exist_ok=True)
        # Not one of the folders is anybody else's business; Postgres insists on 0700 for its own.
        for folder in (self.blobs, self.secrets, self.logs, self.run):
            folder.mkdir(mode=0o700, exist_ok=True)
        for server in ("bus", "cache"):
            self.data(server).mkdir(mode=0o700, exist_ok=True)
        for name in SECRETS:
            self._create_secret(name)

    def secret(self, name: str) -> str:
        return (self.secrets / name).read_text(encoding="utf-8").strip()

    def wipe(self) -> None:
        """
        Remove the home and all that is in it.

        Raises:
            Conflict: The folder exists and does not look like a home of ours, so it stays.
        """
        if not self.root.exists():
            return
        if any(self.root.iterdir()) and not self.secrets.is_dir():
            raise Conflict(
                f"{self.root} is not empty and was not made by Perpetune, so it is not removed. "
                "Set PERPETUNE_HOME to another folder.",
                code="home_not_ours",
            )
        shutil.rmtree(self.root)

    def _create_secret(self, name: str) -> None:
        try:
            # The mode is set as the file is made, so that the value is never readable by others.
            descriptor = os.open(
                self.secrets / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode=0o600
            )
        except FileExistsError:
            return
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
