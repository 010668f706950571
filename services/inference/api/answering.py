"""The HTTP door: OpenAI's inference routes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, cast

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from prometheus_client.metrics_core import Metric
from starlette.types import Receive, Scope, Send

from services.inference import figures
from services.inference.bootstrap import Inference, open_inference
from services.inference.core import Answer, StreamedAnswer
from services.inference.jobs import Job, Origin, chat_job, completion_job
from services.inference.schemas import ChatRequest, CompletionRequest, EmbeddingRequest
from shared.http import authorised
from shared.keys import Caller

router = APIRouter(tags=["inference"])
# The convention of nginx for a client that went away; nobody reads it.
_CLIENT_CLOSED = 499

MayInfer = Annotated[Caller, authorised("inference:write")]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Start the core, its snapshots and its shipper with the app; ship what is left at its end."""
    async with open_inference() as inference:
        app.state.inference = inference
        yield


def measure(app: FastAPI) -> Iterator[Metric]:
    """What the gateway's metrics show of this room; nothing before it is open."""
    inference: Inference | None = getattr(app.state, "inference", None)
    if inference is None:
        return
    yield from figures.measure_models(inference.breakers)
    if inference.shipper is not None:
        yield from figures.measure(inference.shipper)


@router.post("/v1/chat/completions")
async def create_chat_completion(caller: MayInfer, request: Request, body: ChatRequest) -> Response:
    """Answer a chat, whole or as a stream of server-sent events."""
    return await _generated(request, chat_job(body, _origin(caller, request)))


@router.post("/v1/completions")
async def create_completion(
    caller: MayInfer, request: Request, body: CompletionRequest
) -> Response:
    """Continue a text; with `echo` and `logprobs`, score it."""
    return await _generated(request, completion_job(body, _origin(caller, request)))


@router.post("/v1/embeddings")
async def create_embedding(caller: MayInfer, request: Request, body: EmbeddingRequest) -> Response:
    """Vectors of length 1, by a base."""
    embeddings = _inference(request).embeddings
    return await _unless_gone(request, embeddings.answer(body, _origin(caller, request)))


class EventStream(StreamingResponse):
    """Sends events, and stops the generation when the client goes away, even before the first."""

    media_type = "text/event-stream"

    def __init__(self, answer: StreamedAnswer) -> None:
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no", **answer.headers}
        super().__init__(answer.events(), headers=headers)
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._answer.close()


async def _generated(request: Request, job: Job) -> Response:
    core = _inference(request).core
    if not job.is_streamed:
        return await _unless_gone(request, core.answer(job))
    streamed = await core.stream(job)
    return EventStream(streamed) if isinstance(streamed, StreamedAnswer) else _response(streamed)


async def _unless_gone(request: Request, answering: Coroutine[None, None, Answer]) -> Response:
    """The answer; nobody works on it any more once the client has gone away."""
    work = asyncio.create_task(answering)
    departure = asyncio.create_task(_departure(request))
    try:
        await asyncio.wait({work, departure}, return_when=asyncio.FIRST_COMPLETED)
        return _response(work.result()) if work.done() else Response(status_code=_CLIENT_CLOSED)
    finally:
        work.cancel()
        departure.cancel()
        await asyncio.wait({work, departure})


async def _departure(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _response(answer: Answer) -> Response:
    return JSONResponse(answer.body, answer.status, dict(answer.headers))


def _origin(caller: Caller, request: Request) -> Origin:
    return Origin(caller.project, "http", request.headers.get("x-user-id"))


def _inference(request: Request) -> Inference:
    return cast("Inference", request.app.state.inference)
