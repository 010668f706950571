"""The folder of a job: what the child needs goes in, what it made comes out as blobs."""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.finetuning.domain.methods import SUPERVISED
from services.finetuning.models import Job
from services.finetuning.service.training import Weights
from services.finetuning.settings import FinetuningSettings
from shared.blobs import BlobStore
from shared.errors import Conflict, Corrupt
from shared.ids import Digest, Project

CHILD_LOG = "child.log"
_LAST_WORDS_CHARACTERS = 200
_PLAN = "plan.json"
_PARENT = "parent"
_GGUF = "adapter.gguf"
# What is in the tar of an adapter: all a PEFT loader needs, and where it came from.
_PEFT_FILES = ("adapter_config.json", "adapter_model.safetensors", "manifest.json")


@contextmanager
def held(folder: Path) -> Iterator[int]:
    """
    Hold the folder's lock; yields its descriptor.

    A child keeps the lock for as long as it lives. So after a takeover on the same machine the old
    child cannot write among the files of the new one.

    Raises:
        Conflict: Somebody else holds it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _lock(lock, folder)
        yield lock
    finally:
        os.close(lock)


def prepare(folder: Path, job: Job, blobs: BlobStore, settings: FinetuningSettings) -> None:
    """
    Put rows, parent adapter and plan into *folder*; a folder that has a plan is complete.

    Raises:
        Missing: A blob is gone.
        Corrupt: A blob is damaged.
        OSError: There is no room.
    """
    if (folder / _PLAN).exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    project = Project(job.project)
    _place(blobs, project, job.training_digest, folder / "train.jsonl")
    if job.validation_digest is not None:
        _place(blobs, project, job.validation_digest, folder / "validation.jsonl")
    if job.parent_peft_digest is not None:
        _unpack(blobs.path(project, Digest(job.parent_peft_digest)), folder / _PARENT)
    # Last, and under another name first: its presence says that the rest is there.
    draft = folder / f"{_PLAN}.draft"
    draft.write_text(json.dumps(_plan(folder, job, settings), indent=2), encoding="utf-8")
    draft.rename(folder / _PLAN)


def store_weights(blobs: BlobStore, project: Project, path: Path) -> Weights:
    """
    Store an adapter folder the child wrote: the GGUF, and the PEFT files as a tar.

    The tar has no times or owners, so the same weights have the same digest.
    """
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for name in _PEFT_FILES:
            content = (path / name).read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return Weights(
        gguf_digest=blobs.put_path(project, path / _GGUF),
        peft_digest=blobs.put(project, tar.getvalue()),
    )


def last_words(folder: Path) -> str:
    """The last line a child wrote to its standard error: the error, when it died of one."""
    lines = (folder / CHILD_LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    return lines[-1][:_LAST_WORDS_CHARACTERS] if lines else ""


def discard(folder: Path) -> None:
    """Remove the folder of a job that has ended, with the rows in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_suffix(".lock").unlink(missing_ok=True)


def _lock(lock: int, folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise Conflict(f"{folder} is in use by another trainer.", code="folder_in_use") from error


def _place(blobs: BlobStore, project: Project, digest: str | None, path: Path) -> None:
    if digest is None:
        raise Corrupt("A queued job has no training rows.", code="dataset_missing")
    shutil.copyfile(blobs.path(project, Digest(digest)), path)


def _unpack(tar: Path, folder: Path) -> None:
    with tarfile.open(tar) as archive:
        archive.extractall(folder, filter="data")


def _plan(folder: Path, job: Job, settings: FinetuningSettings) -> dict[str, object]:
    # A trainer of an older release knows no methods.
    method = {} if job.method == SUPERVISED else {"method": job.method}
    return {
        "base": job.base,
        **method,
        **job.hyperparameters,
        "seed": job.seed,
        "continue_from": str(folder / _PARENT) if job.parent_peft_digest else None,
        "threads": settings.threads,
        "device": settings.device,
        "data_digest": job.training_digest,
    }
