"""llama.cpp's native `/completion`, prompted with token ids.

The ids come from the one render function, so a request reads like the chats of training, and no
content can open or close a turn.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import httpx2

from services.inference.adapters.llama_answers import read_answer
from services.inference.adapters.residence import Residence
from services.inference.domain.generation import Piece, Sampling
from services.inference.domain.routing import Served
from shared.errors import Invalid, Missing, PerpetuneError, Unavailable
from shared.serving_answers import read_retry_after

# For llguidance, which llama.cpp is built with: no white space between the parts of an answer. A
# model may otherwise fill its tokens with line ends, all of them valid JSON.
_COMPACT = {"x-guidance": {"whitespace_flexible": False}}
_CONTEXT_EXCEEDED = "exceed_context_size_error"


class LlamaUpstream:
    """Generates on the children of the model server."""

    def __init__(self, residence: Residence, http: httpx2.AsyncClient) -> None:
        """
        Args:
            residence: Knows where each model answers.
            http: Pooled; without time-outs of its own, for the caller has a deadline.
        """
        self._residence = residence
        self._http = http

    async def generate(
        self, served: Served, prompt: Sequence[int], sampling: Sampling, *, is_streamed: bool
    ) -> AsyncIterator[Piece]:
        """See `ports.Upstream`."""
        url = await self._url(served)
        request = self._http.build_request(
            "POST",
            f"{url}/completion",
            json=request_body(prompt, sampling, is_streamed=is_streamed),
        )
        try:
            response = await self._http.send(request, stream=True)
            try:
                if not response.is_success:
                    await response.aread()
                    raise refusal(response, served.model)
                tops = sampling.top_logprobs or 0
                pieces = read_answer(response, tops, is_streamed=is_streamed)
                async with aclosing(pieces):
                    async for piece in pieces:
                        yield piece
            finally:
                await response.aclose()
        except httpx2.HTTPError as error:
            self._residence.forget(served, url)
            raise Unavailable(
                f"Model '{served.model}' broke off ({type(error).__name__}); repeat the request.",
                code="upstream_broken",
            ) from error
        except Missing as error:
            # The port belongs to another model's process now.
            self._residence.forget(served, url)
            raise Unavailable(
                f"Model '{served.model}' has moved; repeat the request.", code="model_moved"
            ) from error

    async def _url(self, served: Served) -> str:
        try:
            return await self._residence.url(served)
        except Missing as error:
            raise Unavailable(
                f"Model '{served.model}' cannot be loaded: {error.message}", code=error.code
            ) from error


def request_body(prompt: Sequence[int], sampling: Sampling, *, is_streamed: bool) -> dict[str, Any]:
    """The body of `/completion`; only what differs from the child's own defaults."""
    body: dict[str, Any] = {
        "prompt": list(prompt),
        "stream": is_streamed,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "n_predict": -1 if sampling.max_tokens is None else sampling.max_tokens,
        # A prompt that is partly in the cache is evaluated in other batches, which changes the
        # last bits of its result: a seed would not repeat.
        "cache_prompt": sampling.seed is None,
    }
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.frequency_penalty or sampling.presence_penalty:
        # llama.cpp looks at the last 64 tokens otherwise; OpenAI at the whole text.
        body["repeat_last_n"] = -1
        body["frequency_penalty"] = sampling.frequency_penalty
        body["presence_penalty"] = sampling.presence_penalty
    if sampling.logit_bias:
        body["logit_bias"] = [list(pair) for pair in sampling.logit_bias]
    if sampling.top_logprobs is not None:
        # 0 would switch the probability of the token itself off.
        body["n_probs"] = max(1, sampling.top_logprobs)
        body["post_sampling_probs"] = False
    if sampling.json_schema is not None:
        body["json_schema"] = {**sampling.json_schema, **_COMPACT}
    return body


def refusal(response: httpx2.Response, model: str) -> PerpetuneError:
    """Our error for an answer that is no success."""
    status = response.status_code
    message, kind = _describe(response)
    if status == 404:
        return Missing(message, code="model_moved")
    if status == 400 and kind == _CONTEXT_EXCEEDED:
        return Invalid(
            f"The prompt is longer than the context of '{model}': {message}. Shorten it.",
            code="context_length_exceeded",
            param="messages",
        )
    if 400 <= status < 500 and status not in {408, 429}:
        return Invalid(message, code="upstream_refused")
    return Unavailable(
        f"Model '{model}' is overloaded or not ready ({status}); repeat in a moment.",
        code="upstream_unavailable",
        retry_after=read_retry_after(response),
    )


def _describe(response: httpx2.Response) -> tuple[str, str]:
    try:
        error = response.json()["error"]
        return str(error["message"]), str(error["type"])
    except (ValueError, KeyError, TypeError):
        return f"The model answered {response.status_code}", ""
