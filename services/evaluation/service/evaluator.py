"""What the steps of an evaluation work with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from services.evaluation.adapters.model_server import ModelServer, Weights
from services.evaluation.examples import Layout, lay_out, read_examples
from services.evaluation.models import EvaluationRow
from services.evaluation.repository import KnownModel
from services.evaluation.service.subjects import Subjects
from services.evaluation.settings import EvaluationSettings
from shared.adapter_folders import AdapterFolders
from shared.blobs import BlobStore
from shared.db import UnitOfWork
from shared.ids import Digest, Project

Record = Callable[[UnitOfWork, EvaluationRow], None]
"""Writes down what a step found, in the transaction that ends it."""


@dataclass(frozen=True, slots=True)
class Suite:
    """One evaluation as its steps see it: whose rows, asked of which models."""

    project: Project
    digest: Digest
    subjects: Subjects
    recorded: bool


@dataclass(frozen=True, slots=True)
class Evaluator:
    """The model server, the blobs, and how much a step may do."""

    server: ModelServer
    blobs: BlobStore
    folders: AdapterFolders
    settings: EvaluationSettings

    def layouts(self, suite: Suite, lines: set[int]) -> dict[int, Layout]:
        """The examples on these lines as tokens."""
        chunks = self.blobs.stream(suite.project, suite.digest)
        examples = read_examples(chunks, recorded=suite.recorded)
        return {
            example.line: lay_out(suite.subjects.base, example)
            for example in examples
            if example.line in lines
        }

    def weights(self, suite: Suite, model: KnownModel) -> Weights:
        """
        The model with its adapter on disk.

        Raises:
            Missing: The adapter's bytes are gone.
            Corrupt: They are not what they should be.
        """
        if model.gguf_digest is None or model.peft_digest is None:
            return Weights(model.name, model.base)
        gguf = self.blobs.path(suite.project, model.gguf_digest)
        archive = self.blobs.path(suite.project, model.peft_digest)
        folder = self.folders.unpack(suite.project, model.peft_digest, archive)
        return Weights(model.name, model.base, gguf=str(gguf), peft=str(folder))
