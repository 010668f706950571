"""The parent's HTTP. Callers ask it where a model is; for answers they go straight to the child."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import httpx2
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from services.serving import schemas
from services.serving.embedder import Embedder
from services.serving.residency import Residency
from services.serving.resident import Resident
from services.serving.scorer import Scorer
from services.serving.scoring.messages import ScoredSequence
from services.serving.settings import ServingSettings
from shared.errors import Invalid, Missing, PerpetuneError


def create_app(settings: ServingSettings) -> FastAPI:
    """The app of the parent process; the children end with its lifespan."""
    # Children are on this host and answer probes at once: no proxy, few connections.
    http = httpx2.AsyncClient(trust_env=False)
    residency = Residency(settings, http)
    scorer = Scorer(settings)
    embedder = Embedder(settings, http)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await residency.close(settings.shutdown_seconds)
        await scorer.close()
        await embedder.close()
        await http.aclose()

    app = FastAPI(title="Perpetune model server", version="1", lifespan=lifespan)
    # A web page cannot reach the server by pointing its own host name at 127.0.0.1.
    app.add_middleware(
        TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", settings.advertised_host]
    )
    app.add_exception_handler(PerpetuneError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    _add_model_routes(app, residency)
    _add_torch_routes(app, scorer, embedder)
    return app


def _add_model_routes(app: FastAPI, residency: Residency) -> None:
    @app.get("/healthz")
    async def health() -> schemas.Health:
        return schemas.Health(models=[resident.spec.model for resident in residency.list()])

    @app.post("/v1/load")
    async def load(body: schemas.LoadRequest) -> schemas.ModelRecord:
        resident = await residency.load(
            body.model, base=body.base, adapter=body.adapter, pinned=body.pinned
        )
        return _record(resident)

    @app.get("/v1/models")
    async def list_models() -> schemas.ModelList:
        return schemas.ModelList(data=[_record(resident) for resident in residency.list()])

    # Ids may hold colons and slashes.
    @app.get("/v1/models/{model:path}")
    async def retrieve_model(model: str) -> schemas.ModelRecord:
        return _record(residency.find(model))

    @app.delete("/v1/models/{model:path}")
    async def unload(model: str) -> schemas.Unloaded:
        await residency.unload(model)
        return schemas.Unloaded(model=model)


def _add_torch_routes(app: FastAPI, scorer: Scorer, embedder: Embedder) -> None:
    @app.post("/v1/score")
    async def score(body: schemas.ScoreRequest) -> schemas.ScoreResponse:
        scores = await scorer.score(
            body.base,
            body.adapter,
            [ScoredSequence(**sequence.model_dump()) for sequence in body.sequences],
            top_logprobs=body.top_logprobs,
        )
        return schemas.ScoreResponse(
            sequences=[schemas.SequenceScore.of(score) for score in scores]
        )

    @app.post("/v1/embed")
    async def embed(body: schemas.EmbedRequest) -> schemas.EmbedResponse:
        return schemas.EmbedResponse(embeddings=await embedder.embed(body.base, body.input))


def _record(resident: Resident) -> schemas.ModelRecord:
    process, spec = resident.process, resident.spec
    return schemas.ModelRecord(
        model=spec.model,
        url=spec.url,
        pid=process.pid if process is not None and process.is_alive else None,
        base=spec.base,
        adapter=spec.adapter,
        pinned=resident.is_pinned,
        state=resident.state,
        restarts=resident.restarts,
        running=resident.running,
        slots=spec.slots,
        context_tokens=spec.context_tokens,
    )


async def _answer_error(_request: Request, error: Exception) -> JSONResponse:
    ours = cast("PerpetuneError", error)
    headers = {}
    if ours.retry_after is not None:
        headers["retry-after"] = str(max(1, math.ceil(ours.retry_after)))
    return JSONResponse(ours.body(), status_code=ours.status, headers=headers)


async def _answer_invalid(request: Request, error: Exception) -> JSONResponse:
    first = cast("RequestValidationError", error).errors()[0]
    param = ".".join(str(part) for part in first["loc"] if part != "body") or None
    return await _answer_error(
        request,
        Invalid(f"{param or 'The body'}: {first['msg']}.", code="invalid_value", param=param),
    )


async def _answer_http(request: Request, error: Exception) -> JSONResponse:
    http = cast("HTTPException", error)
    if http.status_code == 404:
        return await _answer_error(
            request, Missing(f"There is no route {request.url.path}.", code="unknown_url")
        )
    refusal = Invalid(f"{request.method} {request.url.path}: {http.detail}.", code="http_error")
    return JSONResponse(refusal.body(), status_code=http.status_code, headers=http.headers)
