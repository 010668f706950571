"""Summary, curve and screen of the demonstration."""

from __future__ import annotations

import io
import json
import time

import pytest
from rich.console import Console

from services.cli.curve import draw
from services.cli.demo.summary import COLUMNS, StepRecord, Summary
from services.cli.screen import Screen, interval


def test_step_splits_its_time_into_training_serving_and_waiting():
    summary = Summary("here")
    with summary.step(1, "one") as record:
        with record.timed("training"):
            time.sleep(0.03)
        with record.timed("serving"):
            time.sleep(0.02)
        with record.timed("serving"):
            time.sleep(0.02)
        time.sleep(0.02)
    assert record.training >= 0.03
    assert record.serving >= 0.04
    assert record.waiting >= 0.02
    assert record.seconds == pytest.approx(record.training + record.serving + record.waiting)


def test_time_of_a_step_that_fails_is_counted():
    summary = Summary("here")
    with pytest.raises(ValueError, match="no"), summary.step(1, "one") as record:
        time.sleep(0.02)
        raise ValueError("no")
    assert record.seconds >= 0.02


def test_table_has_a_line_per_step_and_one_for_all():
    summary = Summary(
        "here",
        "w",
        steps=[
            StepRecord(
                4,
                "canary",
                seconds=10.0,
                serving=8.0,
                requests=33,
                accuracy={"live": 0.0, "canary": 0.96},
                facts={"canary_outcomes": 9},
            ),
            StepRecord(6, "drift", seconds=2.0, skipped="no other world"),
        ],
    )
    rows = summary.rows()
    assert rows[0][2:] == (
        "live 0%\ncanary 96%",
        "canary outcomes 9",
        "33",
        "10.0",
        "",
        "8.0",
        "2.0",
    )
    assert rows[1][3] == "skipped: no other world"
    assert rows[2][1] == "all"
    assert rows[2][4:] == ("33", "12.0", "", "8.0", "4.0")
    assert {len(row) for row in rows} == {len(COLUMNS)}


def test_json_has_every_number_of_the_table():
    step = StepRecord(2, "x", seconds=3.0, training=1.0, requests=5, accuracy={"a": 0.5})
    report = json.loads(json.dumps(Summary("here", "w", steps=[step]).as_json()))
    assert report["requests"] == 5
    assert report["seconds"] == 3.0
    assert report["steps"][0]["waiting"] == 2.0
    assert report["steps"][0]["accuracy"] == {"a": 0.5}
    assert report["audit_command"].startswith("perpetune audit")


def test_curve_goes_from_the_first_value_to_the_last():
    lines = draw([1.0, 0.5, 0.25, 0.0], height=4)
    assert len({len(line) for line in lines}) == 1
    assert lines[0].startswith("   1.000 ")
    assert lines[-1].startswith("   0.000 ")
    plot = [line[9:] for line in lines]
    assert plot[0][0] != "\u2800"
    assert plot[0][-1] == "\u2800"
    assert plot[-1][-1] != "\u2800"
    assert plot[-1][0] == "\u2800"


@pytest.mark.parametrize("values", [[0.7], [2.0, 2.0, 2.0], [float(n) for n in range(500)]])
def test_curve_of_any_length_has_its_size(values):
    lines = draw(values, width=48, height=5)
    assert len(lines) == 5
    assert all(len(line) <= 9 + 48 for line in lines)


def plain():
    out = io.StringIO()
    return Screen(Console(file=out, width=160)), out


def test_without_a_terminal_there_are_lines_and_no_control_characters():
    screen, out = plain()
    screen.step(1, 8, "data")
    with screen.watch("training") as watch:
        for step in range(1, 21):
            watch.update(f"Step {step}/20", done=step, total=20, curve=[1.0] * step)
    screen.table(("a", "b"), [("[red]1[/red]", "2")])
    text = out.getvalue()
    assert "\x1b" not in text
    assert "Step 1 of 8: data" in text
    assert "[red]1[/red]" in text


def test_without_a_terminal_only_the_first_and_the_last_of_quick_notes_are_written():
    screen, out = plain()
    with screen.watch("training") as watch:
        for step in range(1, 21):
            watch.update(f"Step {step}/20", done=step, total=20)
    assert out.getvalue().split("\n") == [
        "  training: Step 1/20",
        "  training: Step 20/20",
        "",
    ]


def test_with_a_terminal_the_bar_and_the_curve_are_drawn():
    out = io.StringIO()
    screen = Screen(Console(file=out, width=160, force_terminal=True))
    with screen.watch("training") as watch:
        watch.update("Step 2/4", done=2, total=4, curve=[1.0, 0.5])
    assert "━" in out.getvalue()
    assert "1.000" in out.getvalue()


def test_intervals_are_written_with_their_number():
    assert interval({"estimate": 0.5, "low": 0.25, "high": 0.75}) == "50% (25% to 75%)"
    assert interval(None) == "-"
