"""Blobs: bytes named by their SHA-256, written once, verified when read.

A folder by default, S3 by configuration. Keys carry the project; messages carry the digest.
"""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from shared.errors import Corrupt, Missing, StorageFull, Unavailable
from shared.ids import Digest, Project

_CHUNK_BYTES = 1 << 20
# The disk is full, a quota is used up, or the file would be larger than the process may write.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class BlobStore:
    """Content-addressed bytes of each project, with a local cache of verified copies."""

    def __init__(self, store: ObjectStore, cache: Path) -> None:
        """
        Args:
            store: Where the bytes live.
            cache: Folder for verified local copies, for parts that need a path.
        """
        self._store = store
        self._cache = cache
        self._cache.mkdir(parents=True, exist_ok=True)

    def put(self, project: Project, data: bytes) -> Digest:
        """Store *data*; the same bytes are stored once.

        Raises:
            StorageFull: No space is left.
            Unavailable: The store does not answer.
        """
        return self.put_stream(project, [data])

    def put_path(self, project: Project, path: Path) -> Digest:
        """Store the content of the file at *path*; memory use does not depend on its size."""
        with path.open("rb") as file:
            return self.put_stream(project, iter(lambda: file.read(_CHUNK_BYTES), b""))

    def put_stream(self, project: Project, chunks: Iterable[bytes]) -> Digest:
        """Store the concatenation of *chunks*; hashed while written, nothing left on an error."""
        digest = hashlib.sha256()
        with mapped_disk_errors(), _temporary(self._cache, "incoming-") as path:
            with path.open("wb") as file:
                for chunk in chunks:
                    digest.update(chunk)
                    file.write(chunk)
            with mapped_store_errors():
                obstore.put(self._store, _key(project, digest.hexdigest()), path)
        return Digest(digest.hexdigest())

    def get(self, project: Project, digest: Digest) -> bytes:
        """
        The bytes with this digest.

        Raises:
            Missing: There are none in this project.
            Corrupt: What is stored does not have this digest.
        """
        return self.path(project, digest).read_bytes()

    def stream(self, project: Project, digest: Digest) -> Iterator[bytes]:
        """The bytes in chunks of 1 MiB, verified before the first is yielded."""
        with self.path(project, digest).open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk

    def path(self, project: Project, digest: Digest) -> Path:
        """A verified local file with these bytes; do not change it."""
        local = self._cache / project / digest
        if not local.exists():
            with mapped_disk_errors():
                local.parent.mkdir(parents=True, exist_ok=True)
                self._fetch(project, digest, local)
        return local

    def _fetch(self, project: Project, digest: Digest, local: Path) -> None:
        found = hashlib.sha256()
        with _temporary(local.parent, "fetch-") as path:
            with path.open("wb") as file, mapped_store_errors():
                for chunk in obstore.get(self._store, _key(project, digest)):
                    data = bytes(chunk)
                    found.update(data)
                    file.write(data)
            if found.hexdigest() != digest:
                raise Corrupt(f"Blob {digest} holds other bytes.", code="blob_corrupt")
            path.rename(local)


def make_blob_store(url: str) -> BlobStore:
    """
    The store at *url*.

    Args:
        url: A folder, or `s3://bucket/prefix` with credentials in the usual AWS variables.
    """
    if "://" in url:
        return BlobStore(from_url(url), Path(tempfile.gettempdir()) / "perpetune-blobs")
    folder = Path(url).resolve()
    store = LocalStore(folder / "objects", mkdir=True)
    return BlobStore(store, folder / "verified")


def _key(project: str, digest: str) -> str:
    return f"{project}/{digest[:2]}/{digest}"


@contextmanager
def _temporary(folder: Path, prefix: str) -> Iterator[Path]:
    handle, name = tempfile.mkstemp(dir=folder, prefix=prefix)
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


@contextmanager
def mapped_disk_errors() -> Iterator[None]:
    """Turn what the operating system says of files into our errors."""
    try:
        yield
    except OSError as error:
        raise _full() if error.errno in _NO_ROOM else _away() from error


@contextmanager
def mapped_store_errors() -> Iterator[None]:
    """Turn the store's errors into ours."""
    try:
        yield
    except FileNotFoundError as error:
        raise Missing("There is no such blob in this project.", code="blob_missing") from error
    except BaseError as error:
        # The store passes the system's words on, and no number of its own.
        is_full = any(f"os error {number})" in str(error) for number in _NO_ROOM)
        raise _full() if is_full else _away() from error


def _full() -> StorageFull:
    return StorageFull("The blob cannot be written: no space is left.", code="storage_full")


def _away() -> Unavailable:
    return Unavailable(
        "The blob store does not answer; repeat in a moment.",
        code="blob_store_unavailable",
        retry_after=2,
    )
