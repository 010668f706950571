"""A job's surroundings in a test: keys, files, datasets, and what was emitted."""

from __future__ import annotations

from sqlalchemy import text

from services.finetuning.service import queueing
from services.releases.service import models
from shared.context import Context
from shared.contracts.finetuning import ModelCreated
from shared.contracts.ingestion import DatasetSealed, Requester
from shared.db import Units
from shared.ids import Project, new_id
from shared.keys import StoredKey, mac_of
from shared.scopes import SCOPES

PROJECT = Context.root(Project("acme"), "test")
BASE = "smollm2-135m-instruct"
KEYS = {name: f"ppt_{name}_" + "a" * 43 for name in ("owner", "reader", "other")}


class FixedKeys:
    """The key ring's snapshot with three keys in it."""

    def __init__(self) -> None:
        known = {
            "owner": ("acme", SCOPES),
            "reader": ("acme", frozenset({"jobs:read"})),
            "other": ("rival", SCOPES),
        }
        self.value = {
            name: StoredKey(name, Project(project), mac_of(KEYS[name], "pepper"), scopes, None)
            for name, (project, scopes) in known.items()
        }

    def refresh_soon(self) -> None:
        """Nothing newer exists."""


class Room:
    """Shortcuts through the database of one test."""

    def __init__(self, units: Units, spine: Units) -> None:
        self.units = units
        self.spine = spine

    def add_file(self, digest: str = "0" * 64, purpose: str = "fine-tune") -> str:
        file_id = new_id("file-")
        with self.units.open(PROJECT) as uow:
            uow.session.execute(
                text(
                    "INSERT INTO ingestion.files"
                    " (id, project, purpose, filename, bytes, digest, status)"
                    " VALUES (:id, 'acme', :purpose, 'rows.jsonl', 1, :digest, 'processed')"
                ),
                {"id": file_id, "purpose": purpose, "digest": digest},
            )
        return file_id

    def sealed(self, job_id: str, **facts) -> DatasetSealed:
        """What ingestion says when the dataset of a job is ready."""
        return DatasetSealed(
            **{
                "dataset_id": "ds_1",
                "requester": Requester(kind="job", id=job_id),
                "training_digest": "1" * 64,
                "training_rows": 40,
                "validation_rows": 0,
                "training_tokens": 4000,
                "trained_tokens": 1000,
                **facts,
            }
        )

    def queue(self, job_id: str, **facts) -> None:
        with self.units.open(PROJECT) as uow:
            queueing.accept_dataset(uow, self.sealed(job_id, **facts))

    def rows(self, query: str, **parameters):
        with self.units.open(PROJECT) as uow:
            return uow.session.execute(text(query), parameters).all()

    def execute(self, statement: str, **parameters) -> None:
        with self.units.open(PROJECT) as uow:
            uow.session.execute(text(statement), parameters)

    def register_models(self) -> None:
        """What the registry does when it hears of models."""
        for data in self.emitted("model.created.v1"):
            with self.units.open(PROJECT) as uow:
                models.register_model(uow, ModelCreated.read(data))

    def emitted(self, message_type: str):
        """Data of all unfinished deliveries and published events of a type."""
        with self.spine.open(PROJECT) as uow:
            found = uow.session.execute(
                text(
                    "SELECT envelope->'data' FROM spine.deliveries"
                    " WHERE envelope->>'type' = :type UNION ALL"
                    " SELECT envelope->'data' FROM spine.events WHERE type = :type"
                ),
                {"type": message_type},
            )
            return list(found.scalars())
