"""Where the rows come from, and what is said about files that cannot be used."""

from __future__ import annotations

import json

import pytest

from services.cli.demo.listings import Listings, World
from services.cli.demo.material import HELD_OUT_ROWS, from_file, generated, jsonl
from services.cli.errors import CommandFailed


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(jsonl(Listings(1).take(80, World.FAMILIAR)))
    return path


def questions(cases):
    return {case.messages[-1]["content"] for case in cases}


def test_generated_parts_are_disjoint_and_of_the_size_asked_for():
    material = generated(rows=160, seed=7)
    parts = [material.training, material.validation, material.held_out]
    assert [len(part) for part in parts] == [160, 16, 24]
    assert len(set.union(*map(questions, parts))) == 200
    asked = [material.supply.one(World.FAMILIAR) for _ in range(50)]
    assert not questions(asked) & set.union(*map(questions, parts))


def test_file_is_split_and_asked_about_with_its_held_out_rows(rows):
    material = from_file(rows, rows=None, seed=7)
    parts = [material.training, material.validation, material.held_out]
    assert [len(part) for part in parts] == [40, 16, HELD_OUT_ROWS]
    assert len(set.union(*map(questions, parts))) == 80
    asked = [material.supply.one(World.FAMILIAR) for _ in range(2 * HELD_OUT_ROWS)]
    assert questions(asked) == questions(material.held_out)
    assert material.worlds == (World.FAMILIAR,)


def test_rows_limits_the_training_part_only(rows):
    material = from_file(rows, rows=12, seed=7)
    assert len(material.training) == 12
    assert len(material.held_out) == HELD_OUT_ROWS


def test_rows_survive_the_way_through_a_file(rows):
    first = json.loads(rows.read_text().splitlines()[0])
    material = from_file(rows, rows=None, seed=7)
    every = [*material.training, *material.validation, *material.held_out]
    assert first in [case.row for case in every]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("no json", "Invalid JSON"),
        ('{"chat": []}', "messages"),
        ('{"messages": [{"role": "user", "content": "x"}]}', "at least 2"),
        (
            '{"messages": [{"role": "user", "content": "x"}, {"role": "user", "content": "y"}]}',
            "assistant's",
        ),
        ('{"messages": [{"role": "user"}, {"role": "assistant", "content": "y"}]}', "content"),
    ],
)
def test_line_that_is_no_chat_is_named(rows, line, complaint):
    rows.write_text(rows.read_text() + line + "\n")
    with pytest.raises(CommandFailed, match=r"line 81 is no chat") as failed:
        from_file(rows, rows=None, seed=7)
    assert complaint in str(failed.value)


def test_too_few_rows_are_refused_with_the_number_needed(tmp_path):
    path = tmp_path / "few.jsonl"
    path.write_bytes(jsonl(Listings(1).take(49, World.FAMILIAR)))
    with pytest.raises(CommandFailed, match="has 49 rows; the demonstration needs 50"):
        from_file(path, rows=None, seed=7)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(CommandFailed, match=r"nowhere\.jsonl cannot be read"):
        from_file(tmp_path / "nowhere.jsonl", rows=None, seed=7)
