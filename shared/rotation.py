"""Secrets that are replaced while we run.

The file of such a secret holds one value a line. The first is in use: it signs and stores. The
others are still accepted; whoever removes their line ends that. A changed file is in force after
about a second, in every process that sees it.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from shared.errors import Invalid, Missing
from shared.logging import get_logger

log = get_logger(__name__)

_LOOK_SECONDS = 1.0
# A file that is written in place lacks lines for a moment, and two writes within one tick of the
# clock look the same. It is read when it has been left alone for this long.
_SETTLED_SECONDS = 0.2
# What is accepted must not be guessable: no note beside a value may become one.
_VALUE = re.compile(r"[!-~]{16,}")

_Version = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Values:
    """
    What a secret is at one moment.

    Attributes:
        accepted: Newest first; the first is in use.
        fingerprint: Tells values in use apart, and nothing else of them: 32 bits, hexadecimal.
    """

    accepted: tuple[str, ...] = field(repr=False)
    fingerprint: str

    @classmethod
    def of(cls, *accepted: str) -> Values:
        return cls(accepted, hashlib.sha256(f"perpetune\0{accepted[0]}".encode()).hexdigest()[:8])

    @property
    def current(self) -> str:
        """The value in use."""
        return self.accepted[0]


class RotatingSecret:
    """
    One secret: the value in use, and those that are accepted beside it.

    Attributes:
        name: For the log and for errors, which never show a value.
    """

    def __init__(
        self,
        name: str,
        values: Values,
        *,
        file: Path | None = None,
        version: _Version | None = None,
    ) -> None:
        """Use `at` or `fixed`."""
        self.name = name
        self._values = values
        self._file = file
        self._version = version
        self._lock = threading.Lock()
        self._look_at = time.monotonic() + _LOOK_SECONDS
        self._is_reported = False

    @classmethod
    def at(cls, file: Path) -> RotatingSecret:
        """
        The secret in *file*, called as the file is.

        Raises:
            Missing: The file is empty.
            Invalid: A line is no value.
        """
        version, values = _read(file.name, file)
        return cls(file.name, values, file=file, version=version)

    @classmethod
    def fixed(cls, value: str, name: str = "secret") -> RotatingSecret:
        """A secret that does not change, for example from the environment."""
        return cls(name, Values.of(value))

    def __repr__(self) -> str:
        return f"RotatingSecret({self.name!r})"

    @property
    def values(self) -> Values:
        """As the file had them a second ago at most; costs one `stat` a second."""
        # Nobody waits for another thread's look, least of all an event loop.
        if self._is_due() and self._lock.acquire(blocking=False):
            try:
                if self._is_due():
                    self._look()
            finally:
                self._lock.release()
        return self._values

    def look(self) -> None:
        """
        Look at the file now, because another process may have been quicker to see a new value.

        What cannot be read, or is empty, changes nothing and is logged once.
        """
        with self._lock:
            self._look()

    def _is_due(self) -> bool:
        return time.monotonic() >= self._look_at

    def _look(self) -> None:
        self._look_at = time.monotonic() + _LOOK_SECONDS
        if self._file is None:
            return
        try:
            self._reread(self._file)
        except (OSError, Missing, Invalid) as error:
            self._report(error)

    def _reread(self, file: Path) -> None:
        found = file.stat()
        if _version(found) == self._version:
            self._is_reported = False
            return
        if 0 <= time.time() - found.st_ctime < _SETTLED_SECONDS:
            return
        version, values = _read(self.name, file)
        if version != _version(file.stat()):
            return  # It is being written.
        self._version, self._values = version, values
        self._is_reported = False
        log.info(
            "secret_changed",
            secret=self.name,
            values=len(values.accepted),
            in_use=values.fingerprint,
        )

    def _report(self, error: OSError | Missing | Invalid) -> None:
        if not self._is_reported:
            reason = type(error).__name__ if isinstance(error, OSError) else error.message
            log.warning("secret_unreadable", secret=self.name, reason=reason)
        self._is_reported = True


def _read(name: str, file: Path) -> tuple[_Version, Values]:
    with file.open("rb") as opened:
        version = _version(os.fstat(opened.fileno()))
        lines = opened.read().decode(errors="replace").splitlines()
    values = [line.strip() for line in lines if line.strip()]
    if not values:
        raise Missing(f"Secret '{name}' is not set: {file} is empty.", code="secret_missing")
    for number, value in enumerate(values, start=1):
        if not _VALUE.fullmatch(value):
            raise Invalid(
                f"Value {number} of secret '{name}' has to be 16 or more printable ASCII "
                f"characters without blanks; {file} holds one value a line and nothing else.",
                code="invalid_secret",
            )
    return version, Values.of(*values)


def _version(found: os.stat_result) -> _Version:
    """The time of the inode, because a copy may bring the time of its contents along."""
    return found.st_ino, found.st_ctime_ns, found.st_size
