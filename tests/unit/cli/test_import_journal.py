"""The journal of an import: whatever kills its process, what was done is known and counted once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from decimal import Decimal

import pytest

from services.cli.errors import CommandFailed
from services.cli.imports.chats import chat_of
from services.cli.imports.folder import Folder
from services.cli.imports.journal import Golden, opened, read
from services.cli.imports.spending import Prices, Tokens, at_worst, expected

ANSWER = Golden(answer="ä", latency_ms=1.5, input_tokens=10, output_tokens=2)
MOST = Tokens(100, 50)


def test_answers_are_found_again(tmp_path):
    path = tmp_path / "journal.jsonl"
    with opened(path) as journal:
        journal.note("begun", token="t")
        journal.note_golden(0, ANSWER)
    with opened(path) as journal:
        assert journal.goldens == {0: ANSWER}
        assert journal.find("begun") == {"kind": "begun", "token": "t"}
        assert journal.find("planned") is None
    assert path.stat().st_mode & 0o777 == 0o600


def test_cut_at_any_byte_it_loses_at_most_the_last_line(tmp_path):
    path = tmp_path / "journal.jsonl"
    with opened(path) as journal:
        for number in range(3):
            journal.note_asking(number, MOST)
            journal.note_golden(number, ANSWER)
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        lines = whole[:length].split(b"\n")[:-1]
        with opened(path) as journal:
            assert len(journal.goldens) == sum(b"golden" in line for line in lines)
            journal.note_golden(9, ANSWER)
        with opened(path) as journal:
            assert journal.goldens[9] == ANSWER


def test_writer_killed_again_and_again_leaves_a_prefix_of_its_answers(tmp_path):
    """At twenty instants: every answer that was told as written is there, in order."""
    path = tmp_path / "journal.jsonl"
    told = 0
    for _ in range(20):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        told = int(writer.stdout.readline())
        time.sleep(0.003)
        os.kill(writer.pid, signal.SIGKILL)
        rest = writer.stdout.read().split(b"\n")[:-1]
        told = int(rest[-1]) if rest else told
        writer.wait()
        with opened(path) as journal:
            assert len(journal.goldens) >= told
            assert sorted(journal.goldens) == list(range(len(journal.goldens)))


def test_second_process_is_refused(tmp_path):
    path = tmp_path / "journal.jsonl"
    with opened(path), pytest.raises(CommandFailed, match="Another process"), opened(path):
        pass


def test_broken_line_in_the_middle_is_not_guessed_at(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"kind": "begun"}\nnonsense\n{"kind": "planned"}\n')
    with pytest.raises(CommandFailed, match="broken line"), opened(path):
        pass


def test_looking_at_a_journal_makes_none(tmp_path):
    assert read(tmp_path / "journal.jsonl") is None
    assert not list(tmp_path.iterdir())


def test_spent_is_what_was_counted_and_the_worst_of_what_was_lost(tmp_path):
    with opened(tmp_path / "journal.jsonl") as journal:
        journal.note_asking(0, MOST)
        assert journal.spent == MOST  # under way
        journal.note_golden(0, ANSWER)
        assert journal.spent == Tokens(10, 2)
        journal.note_asking(1, MOST)
        journal.note_unbilled(1)
        assert journal.spent == Tokens(10, 2)  # turned away
        journal.note_asking(1, MOST)
        journal.note_asking(1, MOST)
        journal.note_golden(1, ANSWER)
        assert journal.spent == Tokens(10 + 10 + 100, 2 + 2 + 50)  # one answer was lost


def test_service_that_does_not_count_is_taken_to_charge_the_most(tmp_path):
    with opened(tmp_path / "journal.jsonl") as journal:
        journal.note_asking(0, MOST)
        journal.note_golden(0, Golden(answer="x"))
        assert journal.spent == MOST


def test_refused_prompt_costs_nothing(tmp_path):
    with opened(tmp_path / "journal.jsonl") as journal:
        journal.note_asking(0, MOST)
        journal.note_golden(0, Golden(answer=None, error="too long", is_refused=True))
        assert journal.spent == Tokens(0, 0)


def test_answer_without_words_and_without_counts_is_taken_to_charge_the_most(tmp_path):
    with opened(tmp_path / "journal.jsonl") as journal:
        journal.note_asking(0, MOST)
        journal.note_golden(0, Golden(answer=None, error="an empty answer"))
        assert journal.spent == MOST


def test_logged_answers_are_no_spending(tmp_path):
    with opened(tmp_path / "journal.jsonl") as journal:
        journal.note_golden(0, ANSWER)
        assert journal.spent == Tokens(0, 0)


def test_worst_case_is_above_any_tokenizer_and_prices_are_of_a_million():
    case = chat_of(
        {
            "messages": [
                {"role": "user", "content": "日本語 and some English"},
                {"role": "assistant", "content": "ok"},
            ]
        }
    )
    most = at_worst(case, max_answer_tokens=64)
    assert most.input >= len("日本語 and some English".encode())
    assert most.output == 64
    about = expected([case], max_answer_tokens=64)
    assert about.input < most.input
    assert 0 < about.output < 64
    prices = Prices(Decimal("0.30"), Decimal("1.20"))
    assert prices.of(Tokens(1_000_000, 500_000)) == Decimal("0.90")


def test_file_is_replaced_as_a_whole(tmp_path):
    folder = Folder(tmp_path / "imports" / "a")
    folder.create()
    folder.save("report.md", b"one")
    folder.save("report.md", b"two")
    assert folder.load("report.md") == b"two"
    assert [path.name for path in folder.path.iterdir()] == ["report.md"]
    assert folder.path.stat().st_mode & 0o777 == 0o700


_WRITER = """
import sys
from pathlib import Path
from services.cli.imports.journal import Golden, opened
with opened(Path(sys.argv[1])) as journal:
    while True:
        number = len(journal.goldens)
        journal.note_golden(number, Golden(answer="x" * 200))
        print(number + 1, flush=True)
"""
