"""Checks of whole files, and how datasets are put together."""

from __future__ import annotations

import json

from services.ingestion.domain import datasets
from services.ingestion.domain.datasets import TokenCounts
from services.ingestion.domain.files import Row, check_training_file
from services.ingestion.domain.findings import first_error


def _row(question: str, answer: str = "yes") -> dict[str, object]:
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
    }


def _file(*rows: object) -> list[bytes]:
    return [("\n".join(json.dumps(row) for row in rows)).encode()]


ROWS = [_row(f"question {number}") for number in range(12)]


def test_a_good_file_has_no_findings():
    check = check_training_file(_file(*ROWS))
    assert len(check.rows) == 12
    assert check.findings == []


def test_byte_order_mark_windows_line_ends_and_blank_lines_are_accepted():
    text = "\r\n\r\n".join(json.dumps(row) for row in ROWS) + "\r\n"
    check = check_training_file([b"\xef\xbb\xbf" + text.encode()])
    assert len(check.rows) == 12
    assert not check.has_errors


def test_nine_rows_are_too_few():
    check = check_training_file(_file(*ROWS[:9]))
    assert [finding.rule for finding in check.findings] == ["too_few_rows"]
    assert "9" in check.findings[0].message


def test_broken_json_names_its_line():
    data = _file(*ROWS)[0].splitlines()
    data[4] = b'{"messages": ['
    check = check_training_file([b"\n".join(data)])
    assert [(finding.rule, finding.line) for finding in check.findings] == [("invalid_json", 5)]


def test_values_other_parsers_change_silently_are_refused():
    bad = [
        b'{"a": 1, "a": 2}',
        b'{"a": NaN}',
        b'{"a": ' + b"9" * 21 + b"}",
        b'{"a": "\\u0000"}',
        b'{"a": "\\ud800"}',
        b"[" * 40 + b"]" * 40,
        b"\xff\xfe{\x00}\x00",
        b'"text"',
    ]
    check = check_training_file([b"\n".join(bad)], min_rows=0)
    assert [finding.line for finding in check.findings] == list(range(1, len(bad) + 1))
    assert {finding.rule for finding in check.findings} == {"invalid_json"}


def test_an_endless_line_is_refused_before_it_is_held():
    endless = (b"x" * (1 << 16) for _ in range(1 << 20))
    check = check_training_file(endless, min_rows=0)
    assert [finding.rule for finding in check.findings] == ["line_too_long"]


def test_exact_duplicates_are_warned_of_with_both_lines():
    check = check_training_file(_file(*ROWS, ROWS[2]))
    assert [(finding.rule, finding.line) for finding in check.findings] == [("exact_duplicate", 13)]
    assert "line 3" in check.findings[0].message


def test_equal_prompts_never_straddle_the_split():
    rows = [Row(line, _row(f"q{line // 2}", str(line))) for line in range(100)]
    training, held_out = datasets.split_rows(rows, 0.1, "ds_1")
    assert len(held_out) == 10
    assert len(training) == 90
    assert datasets.find_leakage(training, held_out) == []
    assert datasets.split_rows(rows, 0.1, "ds_1") == (training, held_out)


def test_leakage_names_both_lines():
    rows = [Row(line, _row(f"q{line}")) for line in range(3)]
    found = datasets.find_leakage(rows, [Row(9, _row("q1"))])
    assert [(finding.rule, finding.line) for finding in found] == [("train_validation_leak", 9)]
    assert "line 1" in found[0].message


def test_a_sample_is_seeded_and_keeps_order():
    rows = [Row(line, _row(str(line))) for line in range(50)]
    chosen = datasets.sample_rows(rows, 10, "seed")
    assert len(chosen) == 10
    assert chosen == sorted(chosen, key=lambda row: row.line)
    assert chosen == datasets.sample_rows(rows, 10, "seed")
    assert chosen != datasets.sample_rows(rows, 10, "another seed")
    assert datasets.sample_rows(rows, None, "seed") == rows


def test_a_long_row_is_a_warning_and_one_without_answer_left_is_an_error():
    rows = [Row(1, _row("a")), Row(2, _row("b")), Row(3, _row("c"))]
    sizes = [
        TokenCounts(50, 10, 50, 10),
        TokenCounts(105, 10, 105, 5),
        TokenCounts(120, 20, 120, 0),
    ]
    report, findings = datasets.count_rows(list(zip(rows, sizes, strict=True)), 100)
    assert [(finding.rule, finding.line) for finding in findings] == [
        ("row_truncated", 2),
        ("answer_cut", 3),
    ]
    assert (report.total, report.trained, report.longest) == (275, 40, 120)


def test_a_broken_line_is_named_before_the_number_of_rows():
    data = _file(*ROWS[:9])[0].splitlines()
    data[4] = b'{"messages": ['
    check = check_training_file([b"\n".join(data)])
    named = first_error(check.findings)
    assert (named.rule, named.line) == ("invalid_json", 5)
    assert named.sentence().count("Line 5") == 1


def test_a_file_in_utf_16_is_named_as_such():
    text = "\n".join(json.dumps(row) for row in ROWS)
    for encoding in ("utf-16", "utf-16-le", "utf-16-be"):
        check = check_training_file([text.encode(encoding)])
        named = first_error(check.findings)
        assert named.rule == "not_utf8"
        assert "UTF-16" in named.sentence()


def test_one_file_has_one_format():
    pair = {
        "input": {"messages": [{"role": "user", "content": "Which?"}]},
        "preferred_output": [{"role": "assistant", "content": "This one."}],
        "non_preferred_output": [{"role": "assistant", "content": "That one."}],
    }
    mixed = check_training_file(_file(*ROWS, pair))
    assert [(finding.rule, finding.line) for finding in mixed.findings] == [("wrong_format", 13)]
    assert check_training_file(_file(*[pair] * 12)).wanted == "preference"
