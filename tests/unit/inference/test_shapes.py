"""Answers in OpenAI's shapes, and requests as llama.cpp reads them."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from services.inference.adapters.llama import request_body
from services.inference.adapters.llama_answers import read_piece
from services.inference.domain.generation import End, Piece, TokenProbability, Usage, join
from services.inference.domain.shapes import ChatShape, CompletionShape, Heading, event
from services.inference.schemas import ChatRequest, CompletionRequest, EmbeddingRequest
from shared.errors import Invalid

HEADING = Heading("chatcmpl-1", 1700000000, "m")
HI = [{"role": "user", "content": "hi"}]


def _chat(**fields) -> ChatRequest:
    return ChatRequest.model_validate({"model": "m", "messages": HI} | fields)


def test_choice_is_the_sum_of_its_pieces():
    choice = join([Piece("a"), Piece("b"), Piece("", end=End("stop", 3, 2))])
    body = ChatShape().body(HEADING, [choice], Usage(3, 2, 0))
    assert body["choices"][0]["message"]["content"] == "ab"
    assert body["usage"]["total_tokens"] == 5


def test_stream_opens_with_the_role_and_ends_with_a_reason():
    shape = ChatShape()
    chunks = [
        shape.opening(HEADING, 0),
        *shape.chunks(HEADING, 0, Piece("a")),
        *shape.chunks(HEADING, 0, Piece("", end=End("length", 3, 1))),
    ]
    assert [chunk["choices"][0]["delta"] for chunk in chunks if chunk] == [
        {"role": "assistant", "content": "", "refusal": None},
        {"content": "a"},
        {},
    ]
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert {(chunk["id"], chunk["created"]) for chunk in chunks if chunk} == {
        ("chatcmpl-1", 1700000000)
    }


def test_event_is_one_line_whatever_the_text():
    raw = event({"text": "a\n\nb\r\u2028"})
    assert raw.count(b"\n") == 2
    assert json.loads(raw[6:]) == {"text": "a\n\nb\r\u2028"}


def test_text_offsets_go_on_across_pieces():
    shape = CompletionShape()
    probability = TokenProbability("ab", (97, 98), -0.5)
    shape.chunks(HEADING, 0, Piece("ab", (probability,)))
    (second,) = shape.chunks(HEADING, 0, Piece("ab", (probability,)))
    (other,) = shape.chunks(HEADING, 1, Piece("ab", (probability,)))
    assert second["choices"][0]["logprobs"]["text_offset"] == [2]
    assert other["choices"][0]["logprobs"]["text_offset"] == [0]


def test_prompt_tokens_count_once_for_all_choices_of_a_prompt():
    ends = {index: End("stop", 10, 1, 4) for index in range(6)}
    assert Usage.of(ends, 3) == Usage(input_tokens=20, output_tokens=6, cached_tokens=8)


def test_seeds_of_choices_differ_and_repeat():
    sampling = _chat(seed=7, n=2).sampling()
    assert [sampling.for_choice(index).seed for index in (0, 1)] == [7, 8]
    assert _chat(seed=-1).sampling().seed == 2**32 - 1


def test_child_gets_what_was_asked_for():
    sampling = _chat(
        temperature=0,
        stop="END",
        max_tokens=5,
        max_completion_tokens=7,
        logprobs=True,
        top_logprobs=2,
        logit_bias={"15": -5},
        seed=1,
        frequency_penalty=0.5,
    ).sampling()
    body = request_body([1, 2], sampling, is_streamed=True)
    assert body["n_predict"] == 7
    assert body["temperature"] == 0
    assert body["stop"] == ["END"]
    assert body["n_probs"] == 2
    assert body["logit_bias"] == [[15, -5]]
    assert body["cache_prompt"] is False
    assert body["repeat_last_n"] == -1


def test_alternatives_are_left_out_unless_asked_for():
    other = {"token": "b", "bytes": [98], "logprob": -2.0}
    entry = {"token": "a", "bytes": [97], "logprob": -1.0, "top_logprobs": [other]}
    body = {"content": "a", "stop": False, "completion_probabilities": [entry]}
    assert read_piece(json.dumps(body), 0).probabilities[0].alternatives == ()
    assert read_piece(json.dumps(body), 1).probabilities[0].alternatives[0].text == "b"


@pytest.mark.parametrize("stop_type", ["eos", "word", "limit"])
def test_end_says_whether_the_model_had_more_to_say(stop_type):
    body = {"content": "", "stop": True, "stop_type": stop_type} | {
        "tokens_evaluated": 3,
        "tokens_predicted": 2,
    }
    end = read_piece(json.dumps(body), 0).end
    assert end == End("length" if stop_type == "limit" else "stop", 3, 2)


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": []},
        {"messages": "hi"},
        {"model": 3},
        {"temperature": 2.5},
        {"temperature": "0.5"},
        {"top_p": -0.1},
        {"n": 0},
        {"n": 129},
        {"max_tokens": 0},
        {"max_tokens": "8"},
        {"stop": []},
        {"stop": ["a", "b", "c", "d", "e"]},
        {"stop": [""]},
        {"top_logprobs": 3},
        {"logprobs": True, "top_logprobs": 21},
        {"presence_penalty": 3},
        {"logit_bias": {"5": 101}},
        {"stream_options": {"include_usage": True}},
        {"response_format": {"type": "xml"}},
    ],
)
def test_chat_with_a_wrong_field_is_refused(fields):
    with pytest.raises(ValidationError):
        _chat(**fields)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"audio": {"voice": "x"}}, "audio"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"web_search_options": {"a": 1}}, "web_search_options"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
    ],
)
def test_chat_that_asks_for_more_than_there_is_is_refused(fields, param):
    with pytest.raises(Invalid) as raised:
        _chat(**fields).sampling()
    assert raised.value.param == param


def test_harmless_fields_are_ignored():
    assert _chat(store=True, metadata={"a": "b"}, service_tier="auto", tools=[]).sampling()


@pytest.mark.parametrize(
    ("prompt", "count"), [("a", 1), ([1, 2], 1), (["a", "b"], 2), ([[1], [2, 3]], 2)]
)
def test_prompt_may_be_text_or_tokens_one_or_many(prompt, count):
    body = CompletionRequest.model_validate({"model": "m", "prompt": prompt})
    assert len(body.prompts) == count


@pytest.mark.parametrize(
    "fields",
    [{"prompt": []}, {"prompt": [-1]}, {"prompt": [["a"]]}, {"logprobs": 6}, {"max_tokens": -1}],
)
def test_completion_with_a_wrong_field_is_refused(fields):
    with pytest.raises(ValidationError):
        CompletionRequest.model_validate({"model": "m", "prompt": "a"} | fields)


@pytest.mark.parametrize("fields", [{"suffix": "x"}, {"best_of": 3}])
def test_completion_that_asks_for_more_than_there_is_is_refused(fields):
    body = CompletionRequest.model_validate({"model": "m", "prompt": "a"} | fields)
    with pytest.raises(Invalid):
        body.sampling()


@pytest.mark.parametrize("fields", [{"input": ""}, {"input": []}, {"encoding_format": "hex"}])
def test_embedding_with_a_wrong_field_is_refused(fields):
    with pytest.raises(ValidationError):
        EmbeddingRequest.model_validate({"model": "m", "input": "a"} | fields)
