"""Adapters on their way from the blob store to the model server."""

from __future__ import annotations

import asyncio
import io
import tarfile

import pytest
from inference_doors import BASE, PROJECT, TUNED

from services.inference.adapters.scoring import ServingScoring
from services.inference.domain.routing import Served
from shared.blobs import make_blob_store
from shared.errors import Corrupt
from shared.serving_client import AsyncServingClient


def _tar(**files: bytes) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name.replace("__", "/"))
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return raw.getvalue()


@pytest.fixture
def scoring(tmp_path) -> ServingScoring:
    blobs = make_blob_store(str(tmp_path / "blobs"))
    serving = AsyncServingClient("http://127.0.0.1:1")
    return ServingScoring(serving, blobs, tmp_path / "peft")


def _served(scoring: ServingScoring, tar: bytes) -> Served:
    return Served(PROJECT, TUNED, BASE, None, scoring._blobs.put(PROJECT, tar))


def test_adapter_is_unpacked_once_however_many_ask(scoring, tmp_path):
    served = _served(scoring, _tar(config=b"{}", weights=b"w"))

    async def many():
        return await asyncio.gather(
            *(asyncio.to_thread(scoring._unpacked, served) for _ in range(8))
        )

    folders = set(asyncio.run(many()))
    assert len(folders) == 1
    assert {path.name for path in folders.pop().iterdir()} == {"config", "weights"}
    assert len(list((tmp_path / "peft" / PROJECT).iterdir())) == 1


def test_archive_cannot_write_outside_its_folder(scoring, tmp_path):
    served = _served(scoring, _tar(**{"..__..__evil": b"x"}))
    with pytest.raises(Corrupt):
        scoring._unpacked(served)
    assert not list(tmp_path.rglob("evil"))
