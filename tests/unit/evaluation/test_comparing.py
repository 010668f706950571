"""Which texts are embedded to compare answers, and what their vectors say."""

from __future__ import annotations

import pytest

from services.evaluation.domain.agreement import Comparison
from services.evaluation.repository import AnswerPair
from services.evaluation.service.comparing import choose_pairs, compare, read_twice
from shared.rendering.bases import find_base
from shared.rendering.tokenizer import decode

BASE = find_base("smollm2-135m-instruct")
VECTORS = {"hello": [1.0, 0.0], "hi": [0.8, 0.6], "bye": [0.0, 1.0]}


def _embedded(*pairs, limit=1000):
    chosen, tokens = choose_pairs(BASE, pairs, limit)
    return len(chosen), list(tokens)


def test_a_text_is_read_twice_and_no_further_than_its_beginning():
    assert decode(BASE, read_twice(BASE, "Hello there")) == "Hello there\nHello there"
    once = read_twice(BASE, "word " * 100_000)
    assert len(once) == 2 * 128 + 1


@pytest.mark.parametrize(
    ("pair", "texts"),
    [
        (AnswerPair(1, "hi", "hello", "bye"), ["hello", "hi", "bye"]),
        (AnswerPair(1, "hello", "hello", "bye"), ["hello", "bye"]),
        (AnswerPair(1, " hello\n", "hello", None), []),
        (AnswerPair(1, '{"a": 1}', '{"a":1.0}', None), []),
        (AnswerPair(1, None, "hello", None), []),
        (AnswerPair(1, "", "hello", "  "), []),
        (AnswerPair(1, "hi", "", "bye"), []),
        (AnswerPair(1, "hi", "hello", None), ["hello", "hi"]),
    ],
)
def test_only_texts_that_differ_are_embedded(pair, texts):
    assert _embedded(pair) == (1, texts)


def test_as_many_pairs_as_fit_and_at_least_one_and_no_text_twice():
    pairs = [AnswerPair(line, "yes", "no", "maybe") for line in range(3)]
    assert _embedded(*pairs, limit=10) == (3, ["no", "yes", "maybe"])
    pairs = [AnswerPair(line, f"answer {line}", f"word {line}", None) for line in range(3)]
    assert _embedded(*pairs, limit=1) == (1, ["word 0", "answer 0"])
    assert _embedded(*pairs, limit=29)[0] == 2


@pytest.mark.parametrize(
    ("pair", "comparison"),
    [
        (AnswerPair(1, "hi", "hello", "bye"), Comparison(False, None, 0.8, 0.0)),
        (AnswerPair(1, "hello ", "hello", None), Comparison(True, None, None, None)),
        (AnswerPair(1, None, "hello", "bye"), Comparison(False, None, None, 0.0)),
        (AnswerPair(1, None, "", "bye"), Comparison(False, None, None, None)),
        (AnswerPair(1, "", "", "bye"), Comparison(True, None, None, None)),
        (AnswerPair(1, "", "hello", ""), Comparison(False, None, None, None)),
        (
            AnswerPair(1, '{"a": 1, "b": 3}', '{"a": 1, "b": 2}', None),
            Comparison(False, {"a": True, "b": False}, None, None),
        ),
    ],
)
def test_the_recorded_answer_takes_the_place_of_the_expected_one(pair, comparison):
    assert compare(pair, VECTORS) == comparison
