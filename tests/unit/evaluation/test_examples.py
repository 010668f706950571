"""Held-out rows as cases: what is read, and what is refused by line."""

from __future__ import annotations

import json

import pytest

from services.evaluation.examples import check_examples, read_examples
from services.evaluation.general import paragraphs
from shared.errors import Invalid
from shared.rendering.bases import find_base
from shared.rendering.chat import render

BASE = find_base("smollm2-135m-instruct")
USER = {"role": "user", "content": "Which city?"}
ANSWER = {"role": "assistant", "content": '{"city": "Bonn"}'}


def _check(*rows, max_cases=10):
    data = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
    return check_examples(BASE, read_examples([data.encode()]), max_cases=max_cases)


def test_the_last_assistant_turn_is_what_is_expected():
    chat = [USER, {**ANSWER, "content": "Where?"}, USER, {**ANSWER, "weight": 0}, USER]
    ((example, layout),) = _check("", {"messages": chat})
    assert example.line == 2
    assert layout.expected == ANSWER["content"]
    assert layout.prompt == render(BASE, chat[:3], add_generation_prompt=True).token_ids
    assert layout.target[-1] == BASE.turn_end_id
    whole = render(BASE, chat[:4], add_generation_prompt=False).token_ids
    assert whole[: len(layout.prompt) + len(layout.target)] == layout.prompt + layout.target


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("{", "not valid JSON"),
        ("[]", "not a JSON object"),
        ({"prompt": "a"}, "no chat"),
        ({"messages": "hello"}, "no chat"),
        ({"messages": ["hello"]}, "no chat"),
        ({"messages": [{**USER, "tool_calls": 5}, ANSWER]}, "no chat"),
        ({"messages": []}, "no question with an answer"),
        ({"messages": [USER]}, "no question with an answer"),
        ({"messages": [ANSWER]}, "no question with an answer"),
        ({"messages": [{**USER, "role": "bot"}, ANSWER]}, "messages[0] has role 'bot'"),
        ({"messages": [{"role": "user", "content": 5}, ANSWER]}, "content that is no text"),
        ({"messages": [USER, {**ANSWER, "content": " "}]}, "is empty"),
        ({"messages": [{**USER, "content": "x " * 9000}, ANSWER]}, "reads at most 8192"),
    ],
)
def test_a_broken_row_is_refused_with_its_line(row, words):
    with pytest.raises(Invalid) as refused:
        _check({"messages": [USER, ANSWER]}, row)
    assert refused.value.code == "invalid_evaluation_file"
    assert refused.value.param == "file_id"
    assert refused.value.message.startswith("Line 2: ")
    assert words in refused.value.message


def test_no_rows_and_too_many_rows_are_refused():
    with pytest.raises(Invalid) as refused:
        _check("")
    assert refused.value.code == "too_few_cases"
    row = {"messages": [USER, ANSWER]}
    assert len(_check(row, row, max_cases=2)) == 2
    with pytest.raises(Invalid) as refused:
        _check(row, row, row, max_cases=2)
    assert refused.value.code == "too_many_cases"


def test_general_text_has_paragraphs_of_plain_prose():
    parts = paragraphs(BASE)
    assert len(parts) == 11
    assert all(50 < len(part) < 150 for part in parts)
