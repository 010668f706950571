"""A blob is there whole or not at all."""

from __future__ import annotations

import resource
from contextlib import contextmanager

import obstore
import pytest
from obstore.store import LocalStore

from shared.blobs import make_blob_store, mapped_store_errors
from shared.errors import StorageFull
from shared.ids import Project

A = Project("a")


@contextmanager
def room_for(size):
    """No file may grow beyond *size* bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_blob_without_room_is_refused_and_leaves_nothing(tmp_path):
    blobs = make_blob_store(str(tmp_path))
    with room_for(10_000), pytest.raises(StorageFull):
        blobs.put(A, bytes(20_000))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert blobs.get(A, blobs.put(A, bytes(20_000))) == bytes(20_000)


def test_a_store_without_room_says_so(tmp_path):
    store = LocalStore(tmp_path)
    with room_for(10_000), pytest.raises(StorageFull), mapped_store_errors():
        obstore.put(store, "x", bytes(20_000))
    assert not list(tmp_path.iterdir())


def test_a_copy_without_room_is_no_bug_and_is_made_later(tmp_path):
    blobs = make_blob_store(str(tmp_path))
    digest = blobs.put(A, bytes(20_000))
    with room_for(10_000), pytest.raises(StorageFull):
        blobs.get(A, digest)
    assert blobs.get(A, digest) == bytes(20_000)
