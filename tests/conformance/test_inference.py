"""Checks 51 to 63: answers."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import time

import httpx2
import openai
import pydantic
import pytest
from openai.types import Batch

from tests.conformance.checks import in_both_modes
from tests.conformance.samples import BASE, jsonl

# What the tuned models were asked.
CODE = [{"role": "user", "content": "Code of amber chair?"}]
SKY = [{"role": "user", "content": "What colour is the sky?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city now.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Basel", "Bern"]}},
            "required": ["city"],
        },
    },
}
slow = pytest.mark.slow


def ask(client: openai.OpenAI, **fields):
    """One short answer of the base, unless told otherwise."""
    given = {"model": BASE, "messages": SKY, "max_tokens": 12, **fields}
    return client.chat.completions.create(**given)


@slow
@in_both_modes
def test_check_51_bases_models_and_checkpoints_answer(client, tuned):
    """Base, tuned model and checkpoint answer; usage adds up."""
    checkpoint = client.fine_tuning.jobs.checkpoints.list(tuned.id).data[0]
    for model in (BASE, tuned.model, checkpoint.fine_tuned_model_checkpoint):
        answer = ask(client, model=model, messages=CODE, temperature=0)
        usage = answer.usage
        assert answer.choices[0].message.content
        assert usage.prompt_tokens + usage.completion_tokens == usage.total_tokens


@slow
@in_both_modes
def test_check_51_answers_stop_or_are_cut(client):
    """An answer ends by itself with `stop`, or with `length` where it is cut."""
    assert ask(client, max_tokens=1).choices[0].finish_reason == "length"
    word = ask(client, temperature=0).choices[0].message.content.split()[1]
    assert ask(client, temperature=0, stop=word).choices[0].finish_reason == "stop"


@slow
@in_both_modes
def test_check_51_answers_call_tools(client):
    """An answer that calls a tool ends with `tool_calls`."""
    answer = ask(client, tools=[WEATHER], tool_choice="required", max_tokens=64)
    assert answer.choices[0].finish_reason == "tool_calls"


@slow
def test_check_52_streams_have_openais_form(client):
    """A stream has one id, the role first, a reason last, then usage, then its end."""
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len({(chunk.id, chunk.created) for chunk in chunks}) == 1
    assert chunks[-2].choices[0].finish_reason in {"stop", "length"}
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens > 0
    raw = client.chat.completions.with_raw_response.create(
        model=BASE, messages=SKY, max_tokens=2, stream=True
    )
    assert raw.http_response.read().rstrip().endswith(b"data: [DONE]")


@slow
@in_both_modes
def test_stored_chats_are_found_by_their_id(client):
    """What `store` keeps is found at once, listed soon, and deleted."""
    answer = ask(client, store=True, metadata={"run": "conformance"})
    found = client.chat.completions.retrieve(answer.id)
    assert (found.choices, found.metadata) == (answer.choices, {"run": "conformance"})
    listed = client.chat.completions.list(metadata={"run": "conformance"})
    assert answer.id in {each.id for each in listed}
    assert client.chat.completions.delete(answer.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.retrieve(answer.id)


@slow
def test_check_53_who_leaves_frees_its_place(client):
    """Answers nobody reads any more do not hold up the next one."""
    began = time.monotonic()
    ask(client)
    alone = time.monotonic() - began
    for _ in range(8):
        with ask(client, stream=True, max_tokens=1_000) as left:
            next(iter(left))
    time.sleep(0.5)
    began = time.monotonic()
    ask(client)
    assert time.monotonic() - began < 3 * alone + 1


@slow
def test_check_54_sampling_is_as_documented(client):
    """Limits, stops, choices, seeds, biases and log-probabilities do as documented."""
    assert ask(client, max_completion_tokens=3, max_tokens=openai.omit).usage.completion_tokens == 3
    stopped = ask(client, stop=["blue", "the", "a", "is"], max_tokens=40)
    assert not any(word in stopped.choices[0].message.content for word in ("blue", "the"))
    assert [choice.index for choice in ask(client, n=3).choices] == [0, 1, 2]
    for temperature in (0, 1):
        first, second = (ask(client, seed=5, temperature=temperature) for _ in range(2))
        assert first.choices[0].message.content == second.choices[0].message.content
    scored = ask(client, logprobs=True, top_logprobs=20, temperature=0, max_tokens=4)
    for token in scored.choices[0].logprobs.content:
        assert len(token.top_logprobs) == 20
        assert token.logprob == max(top.logprob for top in token.top_logprobs)
    token = scored.choices[0].logprobs.content[0]
    plain = ask(client, temperature=0, max_tokens=1).choices[0].message.content
    assert plain == token.token
    with pytest.raises(openai.BadRequestError):
        ask(client, logprobs=True, top_logprobs=21)
    with pytest.raises(openai.BadRequestError):
        ask(client, stop=["1", "2", "3", "4", "5"])


@slow
@pytest.mark.parametrize(
    "choice",
    ["none", "auto", "required", {"type": "function", "function": {"name": "get_weather"}}],
    ids=["none", "auto", "required", "named"],
)
def test_check_55_tools_are_called_as_told(client, choice):
    """Tools are called never, if need be, in any case, or by name; arguments are JSON."""
    answer = ask(
        client, tools=[WEATHER], tool_choice=choice, parallel_tool_calls=False, max_tokens=64
    )
    calls = answer.choices[0].message.tool_calls or []
    assert len(calls) <= 1
    assert calls or choice in ("none", "auto")
    assert not (calls and choice == "none")
    for call in calls:
        assert isinstance(json.loads(call.function.arguments)["city"], str)


class Reply(pydantic.BaseModel):
    """What a parsed answer has to be."""

    colour: str
    is_bright: bool


@slow
def test_check_56_answers_are_json_where_asked(client):
    """`json_object`, `json_schema` and `parse` give JSON of the wanted shape."""
    whole = ask(client, response_format={"type": "json_object"}, max_tokens=200, temperature=0)
    if whole.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(whole.choices[0].message.content), dict)
    schema = {
        "name": "reply",
        "schema": {
            "type": "object",
            "properties": {"sure": {"type": "boolean"}},
            "required": ["sure"],
            "additionalProperties": False,
        },
    }
    wanted = {"type": "json_schema", "json_schema": schema}
    short = ask(client, response_format=wanted, max_tokens=60)
    assert json.loads(short.choices[0].message.content).keys() == {"sure"}
    parsed = client.chat.completions.parse(
        model=BASE, messages=SKY, response_format=Reply, max_tokens=120, temperature=0
    )
    assert isinstance(parsed.choices[0].message.parsed, Reply)


@slow
def test_check_57_prompts_beyond_the_context_are_refused(client):
    """A prompt that does not fit is `context_length_exceeded`, and never cut."""
    long = [{"role": "user", "content": "word " * 9_000}]
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, messages=long)
    assert refused.value.code == "context_length_exceeded"


@slow
@pytest.mark.parametrize("tokens", [0, 1])
def test_check_58_prompts_are_scored(client, tokens):
    """`echo` with `logprobs` gives the log-probability of every token of the prompt."""
    scored = client.completions.create(
        model=BASE, prompt="The sky is blue", echo=True, logprobs=1, max_tokens=tokens
    ).choices[0]
    assert scored.text.startswith("The sky is blue")
    probabilities = scored.logprobs.token_logprobs
    assert probabilities[0] is None
    assert all(p <= 0 for p in probabilities[1:])
    assert "".join(scored.logprobs.tokens) == scored.text


@slow
def test_check_59_embeddings_in_every_form(client):
    """Embeddings are base64 or numbers, of texts or tokens, in the order of the inputs."""
    default = client.embeddings.create(model=BASE, input=["sky", "sea"])
    floats = client.embeddings.create(model=BASE, input=["sky", "sea"], encoding_format="float")
    for one, two in zip(default.data, floats.data, strict=True):
        assert one.embedding == pytest.approx(two.embedding, abs=1e-6)
    assert [each.index for each in floats.data] == [0, 1]
    raw = client.embeddings.with_raw_response.create(
        model=BASE, input="sky", encoding_format="base64"
    )
    packed = base64.b64decode(raw.http_response.json()["data"][0]["embedding"])
    numbers = struct.unpack(f"<{len(packed) // 4}f", packed)
    assert list(numbers) == pytest.approx(floats.data[0].embedding, abs=1e-6)
    assert client.embeddings.create(model=BASE, input=[[1, 2, 3]]).data[0].embedding
    with pytest.raises(openai.BadRequestError):
        client.embeddings.create(model=BASE, input="")
    with pytest.raises(openai.BadRequestError):
        client.embeddings.create(model=BASE, input=["sky"] * 2_049)
    with pytest.raises(openai.BadRequestError):
        client.embeddings.create(model=BASE, input="sky", dimensions=10_000)


@slow
def test_check_59_two_thousand_inputs_are_embedded(client):
    """2,048 inputs are embedded at once."""
    assert len(client.embeddings.create(model=BASE, input=["sky"] * 2_048).data) == 2_048


def batch_of(client: openai.OpenAI, models: list[str], **fields) -> Batch:
    """A batch with a line for each of *models*, which are named by their numbers from 1."""
    content = jsonl(
        [
            {
                "custom_id": str(number),
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {"model": model, "messages": SKY, "max_tokens": 2, **fields},
            }
            for number, model in enumerate(models, start=1)
        ]
    )
    file = client.files.create(file=("batch.jsonl", content), purpose="batch")
    return client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )


def batch_when(client: openai.OpenAI, batch: Batch, *states: str) -> Batch:
    """The batch when it is in one of *states*."""
    deadline = time.monotonic() + 60
    while (batch := client.batches.retrieve(batch.id)).status not in states:
        assert time.monotonic() < deadline, batch
        time.sleep(0.2)
    return batch


@slow
@in_both_modes
def test_check_60_batches_run_to_their_end(client):
    """A batch ends with a line for each request, in its output or its error file."""
    batch = batch_when(client, batch_of(client, [BASE, "gpt-9", BASE]), "completed")
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (3, 2, 1)
    assert client.files.content(batch.output_file_id).text.count("\n") == 2
    assert client.files.content(batch.error_file_id).text.count("\n") == 1
    assert batch.id in [each.id for each in client.batches.list(limit=1)]


@slow
@in_both_modes
def test_check_60_batches_are_cancelled(client):
    """A batch that is cancelled is `cancelling`, then `cancelled`, and keeps what it has."""
    batch = batch_of(client, [BASE] * 200, max_tokens=200)
    batch_when(client, batch, "in_progress")
    assert client.batches.cancel(batch.id).status == "cancelling"
    counts = batch_when(client, batch, "cancelled").request_counts
    assert counts.completed + counts.failed == counts.total == 200


@slow
def test_check_61_a_hundred_at_once_are_not_mixed_up(live, tuned, second_tuned):
    """A hundred requests at once over two adapters: each is answered by its own."""

    async def answers() -> list[tuple[str, str]]:
        async with openai.AsyncOpenAI(
            base_url=f"{live.url}/v1", api_key=live.key, timeout=300, max_retries=20
        ) as client:

            async def one(model: str) -> tuple[str, str]:
                answer = await client.chat.completions.create(
                    model=model, messages=CODE, max_tokens=6, temperature=0
                )
                return model, answer.choices[0].message.content

            models = [tuned.model, second_tuned.model] * 50
            return list(await asyncio.gather(*(one(model) for model in models)))

    said: dict[str, set[str]] = {}
    for model, text in asyncio.run(answers()):
        said.setdefault(model, set()).add(text)
    assert len(said[tuned.model]) == 1
    assert len(said[second_tuned.model]) == 1
    assert said[tuned.model] != said[second_tuned.model]


def test_check_63_refusals_have_openais_form(live):
    """Without a key, on unknown paths and with wrong methods, the refusal has OpenAI's form."""
    with httpx2.Client(base_url=live.url) as plain:
        signed = {"authorization": f"Bearer {live.key}"}
        answers = [
            (plain.get("/v1/files"), 401),
            (plain.get("/v1/files", headers={"authorization": "Bearer wrong"}), 401),
            (plain.get("/v1/nothing", headers=signed), 404),
            (plain.put("/v1/files", headers=signed), 405),
        ]
    for answer, status in answers:
        assert answer.status_code == status
        assert answer.json()["error"].keys() >= {"message", "type", "param", "code"}


@slow
def test_check_62_limits_say_when_to_come_back(live, narrow):
    """Beyond a limit the answer is 429 with `retry-after-ms`, and the client recovers by itself."""

    async def flood(retries: int) -> list[object]:
        async with openai.AsyncOpenAI(
            base_url=f"{narrow}/v1", api_key=live.key, timeout=300, max_retries=retries
        ) as client:
            asked = (
                client.chat.completions.create(model=BASE, messages=SKY, max_tokens=2)
                for _ in range(40)
            )
            return await asyncio.gather(*asked, return_exceptions=True)

    refused = [e for e in asyncio.run(flood(0)) if isinstance(e, openai.APIStatusError)]
    assert refused, "no limit was reached"
    limited = [e for e in refused if e.status_code == 429]
    assert limited, {e.status_code for e in refused}
    assert all(int(e.response.headers["retry-after-ms"]) > 0 for e in limited)
    assert {e.type for e in limited} == {"rate_limit_error"}
    assert not [e for e in asyncio.run(flood(20)) if isinstance(e, Exception)]
