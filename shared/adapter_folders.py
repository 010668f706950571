"""Adapter archives as folders, which torch wants: each unpacked once, named by its digest."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path

from shared.errors import Corrupt
from shared.ids import Digest, Project

# An adapter of rank 64 on a base of 8 billion weights has about 0.7 GB.
_MAX_BYTES = 4 << 30
_KEPT_FOLDERS = 16


class AdapterFolders:
    """Unpacked adapters; the sixteen used last are kept."""

    def __init__(self, root: Path) -> None:
        """
        Args:
            root: Folder of our own, readable for the model server.
        """
        self._root = root.resolve()

    def unpack(self, project: Project, digest: Digest, archive: Path) -> Path:
        """
        The folder with the content of *archive*. Threads and processes may ask at once.

        Args:
            project: Whose adapter it is.
            digest: Of the archive.
            archive: A tar file.

        Raises:
            Corrupt: It is no tar, is too large, or has an entry that would land outside.
        """
        folder = self._root / f"{project}-{digest}"
        if not folder.is_dir():
            self._root.mkdir(parents=True, exist_ok=True)
            self._unpack(archive, folder)
            self._forget_oldest()
        os.utime(folder)
        return folder

    def _unpack(self, archive: Path, folder: Path) -> None:
        with tempfile.TemporaryDirectory(dir=self._root, prefix="incoming-") as incoming:
            content = Path(incoming) / "content"
            content.mkdir()
            try:
                _extract(archive, content)
            except tarfile.TarError as error:
                raise Corrupt(
                    f"The adapter archive cannot be unpacked: {error}", code="adapter_corrupt"
                ) from error
            try:
                content.rename(folder)
            except OSError:
                # Somebody else was faster; that folder has the same bytes.
                if not folder.is_dir():
                    raise

    def _forget_oldest(self) -> None:
        folders = [path for path in self._root.iterdir() if not path.name.startswith("incoming-")]
        # Somebody else may be forgetting the same ones.
        with suppress(FileNotFoundError):
            folders.sort(key=lambda path: path.stat().st_mtime, reverse=True)
            for folder in folders[_KEPT_FOLDERS:]:
                shutil.rmtree(folder, ignore_errors=True)


def _extract(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as tar:
        size = sum(member.size for member in tar.getmembers())
        if size > _MAX_BYTES:
            raise tarfile.TarError(f"it holds {size} bytes, more than {_MAX_BYTES}")
        # The filter refuses absolute names, `..`, links that lead outside, and devices.
        tar.extractall(folder, filter="data")
