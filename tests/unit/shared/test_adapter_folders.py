"""Adapter archives: unpacked once, and never outside their folder."""

from __future__ import annotations

import io
import os
import tarfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared import adapter_folders
from shared.adapter_folders import AdapterFolders
from shared.errors import Corrupt
from shared.ids import Digest, Project

PROJECT = Project("acme")


def _archive(path, name="adapter_config.json", **changes):
    with tarfile.open(path, "w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = 2
        for field, value in changes.items():
            setattr(entry, field, value)
        tar.addfile(entry, io.BytesIO(b"{}"))
    return path


def test_an_archive_is_unpacked_once(tmp_path):
    folders = AdapterFolders(tmp_path / "adapters")
    archive = _archive(tmp_path / "a.tar")
    folder = folders.unpack(PROJECT, Digest("d1"), archive)
    assert (folder / "adapter_config.json").read_text() == "{}"
    archive.unlink()
    assert folders.unpack(PROJECT, Digest("d1"), archive) == folder


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "../outside"},
        {"name": "link", "type": tarfile.SYMTYPE, "linkname": "../../outside", "size": 0},
        {"name": "device", "type": tarfile.CHRTYPE, "size": 0},
        {"name": "hard", "type": tarfile.LNKTYPE, "linkname": "../../outside", "size": 0},
    ],
)
def test_an_entry_that_leads_outside_is_refused_and_nothing_is_left(tmp_path, changes):
    root = tmp_path / "adapters"
    with pytest.raises(Corrupt) as refused:
        AdapterFolders(root).unpack(PROJECT, Digest("d1"), _archive(tmp_path / "a.tar", **changes))
    assert refused.value.code == "adapter_corrupt"
    assert list(root.iterdir()) == []
    assert not (tmp_path / "outside").exists()


def test_an_absolute_name_lands_inside(tmp_path):
    root = tmp_path / "adapters"
    outside = tmp_path / "outside"
    folder = AdapterFolders(root).unpack(
        PROJECT, Digest("d1"), _archive(tmp_path / "a.tar", str(outside))
    )
    assert not outside.exists()
    assert (folder / str(outside).lstrip("/")).exists()


def test_what_is_no_tar_or_too_large_is_refused(tmp_path, monkeypatch):
    broken = tmp_path / "broken"
    broken.write_bytes(b"no tar at all")
    folders = AdapterFolders(tmp_path / "adapters")
    with pytest.raises(Corrupt):
        folders.unpack(PROJECT, Digest("d1"), broken)
    monkeypatch.setattr(adapter_folders, "_MAX_BYTES", 1)
    with pytest.raises(Corrupt, match="more than 1"):
        folders.unpack(PROJECT, Digest("d2"), _archive(tmp_path / "a.tar"))


def test_only_the_folders_used_last_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(adapter_folders, "_KEPT_FOLDERS", 2)
    root = tmp_path / "adapters"
    folders = AdapterFolders(root)
    archive = _archive(tmp_path / "a.tar")
    for age, name in ((30, "a"), (10, "b"), (20, "c")):
        folder = folders.unpack(PROJECT, Digest(name), archive)
        stamp = folder.stat().st_mtime - age
        os.utime(folder, (stamp, stamp))
    folders.unpack(PROJECT, Digest("d"), archive)
    assert {folder.name for folder in root.iterdir()} == {f"{PROJECT}-b", f"{PROJECT}-d"}


def test_however_many_ask_there_is_one_folder(tmp_path):
    folders = AdapterFolders(tmp_path / "adapters")
    archive = _archive(tmp_path / "a.tar")
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(folders.unpack, PROJECT, Digest("d"), archive) for _ in range(8)]
    (folder,) = {future.result() for future in asked}
    assert [path.name for path in folder.iterdir()] == ["adapter_config.json"]
    assert list((tmp_path / "adapters").iterdir()) == [folder]


def test_projects_share_no_folder(tmp_path):
    folders = AdapterFolders(tmp_path / "adapters")
    archive = _archive(tmp_path / "a.tar")
    other = folders.unpack(Project("other"), Digest("d"), archive)
    assert folders.unpack(PROJECT, Digest("d"), archive) != other
