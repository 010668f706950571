"""Disks with little room: a tmpfs mounted where a server or a service keeps its files; for root."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

_FILLER = "filler"
_CHUNK = bytes(65_536)


@contextlib.contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[None]:
    """
    *folder*, with what is in it, on a disk of its own for the length of a block.

    Nobody may have files open in it at the beginning and at the end.

    Raises:
        OSError: It cannot be had here.
    """
    with tempfile.TemporaryDirectory(prefix="perpetune-", dir=folder.parent) as aside:
        _mount(folder, size_bytes, Path(aside))
        try:
            yield
        finally:
            _move(folder, Path(aside), leave=_FILLER)
            _run("umount", str(folder))
            _move(Path(aside), folder)


def why_not() -> str:
    """Why there can be no small disk here; empty if there can."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with small_disk(Path(folder) / "disk", 1 << 20):
                return ""
        except OSError as error:
            return f"no tmpfs can be mounted here: {error}"


@contextlib.contextmanager
def full(folder: Path, *, free_bytes: int = 0) -> Iterator[None]:
    """The disk of *folder* filled up for the length of a block, but for *free_bytes*."""
    filler = folder / _FILLER
    try:
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(_CHUNK):
                pass
        room = filler.stat().st_size
        os.truncate(filler, max(0, room - free_bytes))
        yield
    finally:
        filler.unlink(missing_ok=True)


def _mount(folder: Path, size_bytes: int, aside: Path) -> None:
    folder.mkdir(exist_ok=True)
    status = folder.stat()
    _move(folder, aside)
    try:
        _run("mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder))
    except OSError:
        _move(aside, folder)
        raise
    os.chown(folder, status.st_uid, status.st_gid)
    folder.chmod(status.st_mode & 0o777)
    _move(aside, folder)


def _move(source: Path, target: Path, *, leave: str = "") -> None:
    for each in source.iterdir():
        if each.name != leave:
            _run("cp", "-a", str(each), str(target))
            shutil.rmtree(each) if each.is_dir() else each.unlink()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
