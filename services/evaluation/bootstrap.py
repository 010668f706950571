"""What a process of evaluation holds once. The only module that knows concrete parts."""

from __future__ import annotations

from functools import cache

from services.evaluation.adapters.model_server import ModelServer
from services.evaluation.service.evaluator import Evaluator
from services.evaluation.settings import EvaluationSettings
from shared.adapter_folders import AdapterFolders
from shared.process import process_blobs, process_settings
from shared.serving_client import ServingClient


@cache
def evaluation_settings() -> EvaluationSettings:
    return EvaluationSettings()


@cache
def process_evaluator() -> Evaluator:
    """Made at the first step, after a worker has forked its children."""
    core = process_settings()
    return Evaluator(
        server=ModelServer(ServingClient(core.serving_url)),
        blobs=process_blobs(),
        folders=AdapterFolders(core.home / "adapters"),
        settings=evaluation_settings(),
    )
