"""What ids of stored chats say, and their messages as they are listed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from services.inference.domain.stored import (
    ARRIVING_SECONDS,
    Order,
    list_messages,
    may_arrive,
    messages_after,
    read_id,
    write_id,
)
from services.inference.records import Content, Line, Record, StoredCompletion
from shared.errors import Invalid, Missing
from shared.ids import instant_of, uuid7

NOW = datetime(2026, 11, 1, tzinfo=UTC)
REQUEST = UUID("019a0000-0000-7000-8000-000000000001")


def test_id_names_its_request():
    assert read_id(write_id(REQUEST)) == REQUEST


@pytest.mark.parametrize(
    "given", ["", "chatcmpl-", f"cmpl-{'0' * 32}", f"chatcmpl-{'g' * 32}", f"chatcmpl-{'0' * 33}"]
)
def test_what_is_no_id_names_nothing(given):
    with pytest.raises(Missing):
        read_id(given)


@pytest.mark.parametrize(
    ("seconds", "may"), [(0, True), (-65, True), (5, True), (-65.001, False), (5.001, False)]
)
def test_only_a_chat_of_a_moment_ago_may_still_arrive(seconds, may):
    at = NOW + timedelta(seconds=seconds)
    request = uuid7(milliseconds=round(at.timestamp() * 1000))
    assert instant_of(request) == at
    assert may_arrive(request, NOW, longest_answer_seconds=60) is may
    assert ARRIVING_SECONDS == 5


def test_messages_tell_texts_and_parts_apart():
    parts = [{"type": "text", "text": "a"}]
    call = [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    first, second, third = list_messages(
        REQUEST,
        [
            {"role": "user", "content": "hi", "name": "ann"},
            {"role": "user", "content": parts},
            {"role": "assistant", "tool_calls": call},
        ],
    )
    assert first == {
        "id": f"{write_id(REQUEST)}-0",
        "role": "user",
        "content": "hi",
        "content_parts": None,
        "name": "ann",
        "refusal": None,
    }
    assert (second["content"], second["content_parts"]) == (None, parts)
    assert (third["content"], third["tool_calls"]) == (None, call)


def test_messages_are_paged_in_either_order():
    listed = list_messages(REQUEST, [{"role": "user", "content": text} for text in "abc"])

    def texts(after: int | None, order: Order) -> str:
        cursor = None if after is None else listed[after]["id"]
        following = messages_after(listed, after=cursor, order=order)
        return "".join(each["content"] for each in following)

    assert (texts(None, "asc"), texts(None, "desc")) == ("abc", "cba")
    assert (texts(0, "asc"), texts(1, "desc"), texts(2, "asc")) == ("bc", "a", "")
    with pytest.raises(Invalid, match="after"):
        messages_after(listed, after="x", order="asc")


RECORD = Record(
    "acme", REQUEST.hex, "inf_1", None, None, "none", "m", "ok", None, False, False, 1.0, 1, 1,
    "00", "http",
)  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        Line("b", 0, RECORD, None),
        Line("b", 0, RECORD, Content([], "a"), None),
        Line("b", 0, RECORD, None, StoredCompletion("m", [], {"id": "x"}, {"k": "v"})),
    ],
)
def test_lines_come_back_as_they_were_written(line):
    assert Line.decode(line.encode()) == line


def test_line_of_the_release_before_is_read():
    new = Line("b", 0, RECORD, Content([], "a"))
    assert b',"stored":null' in new.encode()
    assert Line.decode(new.encode().replace(b',"stored":null', b"")) == new
