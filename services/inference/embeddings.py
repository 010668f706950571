"""Vectors of texts. They are no evidence on a release, so they are not recorded."""

from __future__ import annotations

import asyncio
import base64
from array import array

from services.inference.attempts import within
from services.inference.core import Answer
from services.inference.domain.routing import Served, choose_unit
from services.inference.jobs import Origin, as_tokens
from services.inference.ports import Scoring
from services.inference.recorder import Recorder, answer_headers
from services.inference.router import Router
from services.inference.schemas import EmbeddingRequest
from shared.errors import Invalid, Unavailable
from shared.ids import uuid7
from shared.rendering.bases import find_base


class Embeddings:
    """Answers `POST /v1/embeddings`."""

    def __init__(
        self, *, router: Router, scoring: Scoring, recorder: Recorder, total_seconds: float
    ) -> None:
        self._router = router
        self._scoring = scoring
        self._recorder = recorder
        self._total_seconds = total_seconds

    async def answer(self, body: EmbeddingRequest, origin: Origin) -> Answer:
        """
        One vector of length 1 per input.

        Raises:
            Missing: No such model.
            Invalid: The model makes no embeddings, or an input does not fit it.
            Unavailable: The embedding process does not answer.
        """
        request = uuid7()
        unit = choose_unit(body.safety_identifier, body.user, origin.unit_header, request.hex)
        target = await self._router.target(origin.project, body.model, unit)
        tokens = _tokens(target.served, body)
        deadline = asyncio.get_running_loop().time() + self._total_seconds
        async with within(deadline, target.served.model):
            vectors = await self._scoring.embed(target.served, tokens)
        inference_id = self._recorder.sign(origin.project, request, target)
        used = sum(map(len, tokens))
        return Answer(
            200,
            {
                "object": "list",
                "model": target.served.model,
                "data": [
                    {"object": "embedding", "index": index, "embedding": _written(vector, body)}
                    for index, vector in enumerate(vectors)
                ],
                "usage": {"prompt_tokens": used, "total_tokens": used},
            },
            answer_headers(inference_id, target, target.served, is_fallback=False),
        )


def _tokens(served: Served, body: EmbeddingRequest) -> list[list[int]]:
    base = find_base(served.base)
    if base is None:
        raise Unavailable(f"The base '{served.base}' is not installed here.", code="base_missing")
    if served.gguf_digest is not None:
        # The vectors of its base would be somebody else's, without a word.
        raise Invalid(
            f"'{served.model}' is fine-tuned for chat and makes no embeddings; "
            f"use its base '{served.base}'.",
            code="model_not_supported",
            param="model",
        )
    if body.dimensions not in {None, base.hidden_size}:
        raise Invalid(
            f"Vectors of '{served.base}' have {base.hidden_size} dimensions and cannot be "
            "shortened; leave 'dimensions' out.",
            code="unsupported_parameter",
            param="dimensions",
        )
    return [as_tokens(base, text, param="input") for text in body.inputs]


def _written(vector: list[float], body: EmbeddingRequest) -> list[float] | str:
    if body.encoding_format == "float":
        return vector
    # Little-endian 32-bit floats, as the clients of this API read them.
    return base64.b64encode(array("f", vector).tobytes()).decode()
