"""What is asked about is never trained on, whichever file it comes from."""

from __future__ import annotations

import json

import pytest

from services.cli.errors import CommandFailed
from services.cli.imports.chats import Chat, chat_of, read_chats, read_prompts, write_rows
from services.cli.imports.choosing import choose
from services.cli.imports.order import root_of

TOOLS = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}]


def chat(question, answer="yes"):
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return chat_of({"messages": messages})


def chats(*questions):
    return [chat(question) for question in questions]


def numbered(count, word="q"):
    return chats(*(f"{word}{number}" for number in range(count)))


def chosen(training, validation=(), prompts=(), count=100, fits=lambda _: True):
    return choose(training, validation, prompts, count=count, seed=7, fits=fits)


def questions(found: tuple[Chat, ...]):
    return [each.messages[-1]["content"] for each in found]


def test_validation_file_is_asked_about_and_the_rest_of_it_validates():
    choice = chosen(numbered(20), numbered(8, "v"), count=3)
    assert len(choice.cases) == 3
    assert set(questions(choice.cases)) | set(questions(choice.validation)) == set(
        questions(tuple(numbered(8, "v")))
    )
    assert len(choice.validation) == 5
    assert choice.origin == "validation file"


def test_without_a_validation_file_a_fifth_of_the_training_is_held_out():
    choice = chosen(numbered(50))
    assert len(choice.cases) == 10
    assert len(choice.training) == 40
    assert not set(questions(choice.cases)) & set(questions(choice.training))


def test_given_prompts_are_taken_out_of_the_training():
    choice = chosen(numbered(20), prompts=chats("q3", "new"))
    assert set(questions(choice.cases)) == {"q3", "new"}
    assert "q3" not in questions(choice.training)
    assert choice.left_out == 1


def test_same_question_twice_is_asked_once():
    assert len(chosen(numbered(20), prompts=chats("a", "a", "b")).cases) == 2


def test_fewer_cases_are_the_first_of_more():
    many, few = (chosen(numbered(20), numbered(9, "v"), count=count).cases for count in (9, 4))
    assert many[:4] == few


def test_what_the_base_cannot_read_is_left_and_counted():
    choice = chosen(
        numbered(20), numbered(6, "v"), fits=lambda case: case.messages[-1]["content"] != "v2"
    )
    assert "v2" not in questions(choice.cases)
    assert choice.unfit == 1


def test_too_few_rows_to_train_on_are_refused():
    with pytest.raises(CommandFailed, match=r"9 training rows are left .* 10 are needed"):
        chosen(numbered(11), prompts=chats("q0", "q1"))


def test_too_few_rows_to_hold_some_out_are_said_to_be_that():
    with pytest.raises(CommandFailed, match=r"4 training rows are too few to hold some out"):
        chosen(numbered(4))


def test_nothing_to_ask_is_refused():
    with pytest.raises(CommandFailed, match="None of the 20 rows"):
        chosen(numbered(20), fits=lambda _: False)


def test_answer_is_the_last_of_the_assistant_and_weights_are_not_asked():
    row = {
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b", "weight": 0},
            {"role": "user", "content": "c"},
            {"role": "assistant", "content": "d", "weight": 1},
        ],
        "tools": TOOLS,
    }
    found = chat_of(row)
    assert [message["content"] for message in found.messages] == ["a", "b", "c"]
    assert all("weight" not in message for message in found.messages)
    assert found.answer == {"role": "assistant", "content": "d"}
    assert found.tools == {"tools": TOOLS}


def test_preference_expects_what_is_preferred():
    row = {
        "input": {"messages": [{"role": "user", "content": "a"}], "tools": TOOLS},
        "preferred_output": [{"role": "assistant", "content": "good"}],
        "non_preferred_output": [{"role": "assistant", "content": "bad"}],
    }
    found = chat_of(row)
    assert found.is_preference
    assert found.answer["content"] == "good"
    assert found.tools == {"tools": TOOLS}


def test_prompt_that_ends_with_the_user_is_all_question():
    turns = [("user", "a"), ("assistant", "b"), ("user", "c")]
    row = {"messages": [{"role": role, "content": text} for role, text in turns]}
    (found,) = read_prompts(write_rows([row]), "prompts.jsonl")
    assert len(found.messages) == 3
    assert found.answer is None


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "line 2.*not valid JSON"),
        (b'{"prompt": "a", "completion": "b"}', "line 2 is no chat with an answer"),
        (b'{"messages": [{"role": "user", "content": "a"}]}', "line 2 is no chat with an answer"),
        (b'{"messages": [{"role": "assistant", "content": "a"}]}', "line 2 is no chat"),
        (b'{"messages": "a"}', "line 2 is no chat"),
    ],
)
def test_broken_row_is_named_by_file_and_line(line, reason):
    good = json.dumps(chat("a").row).encode()
    with pytest.raises(CommandFailed, match=f"(?i)rows.jsonl.*{reason}"):
        read_chats(good + b"\n" + line + b"\n", "rows.jsonl")


def test_tuned_base_is_read_as_its_root():
    assert root_of("ft:smollm2-135m-instruct:default:moved:abcd1234") == "smollm2-135m-instruct"
    assert root_of("smollm2-135m-instruct") == "smollm2-135m-instruct"
