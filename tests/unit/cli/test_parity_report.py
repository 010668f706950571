"""The parity report: its verdict by the written rule, and two forms that quote and run nothing."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from services.cli.connection import Connection
from services.cli.imports.chats import question_of
from services.cli.imports.folder import Folder
from services.cli.imports.journal import opened
from services.cli.imports.order import Order, Terms
from services.cli.imports.report.decision import decide
from services.cli.imports.report.facts import Cost, Difference, Evaluation, Facts
from services.cli.imports.report.markdown import markdown
from services.cli.imports.report.page import page
from services.cli.imports.report.tables import comparison
from services.cli.imports.steps.tell import are_json, differences_of, next_commands
from services.cli.imports.work import Import
from services.cli.output import make_console
from services.cli.screen import Screen

EVIL = '</pre><script>alert("x")</script><img src=http://evil.example/a onerror=alert(1)>'


def estimate(value, low=None, high=None):
    return {
        "estimate": value,
        "low": value - 0.05 if low is None else low,
        "high": value + 0.05 if high is None else high,
    }


def side(exact, **more):
    return {
        "exact_match": estimate(exact),
        "field_accuracy": None,
        "target_perplexity": None,
        "general_perplexity": None,
        "latency": {"mean_ms": 100.0, "p50_ms": 90.0, "p95_ms": 200.0},
        "input_tokens": 100,
        "output_tokens": None,
        "cut_answers": 0,
        "failed_answers": 0,
        **more,
    }


def rule(name="max_general_perplexity_ratio", *, passed=True):
    return {"rule": name, "passed": passed, "sentence": f"The rule {name}."}


def evaluation(
    *, verdict="pass", difference=None, agreement=0.9, fields=None, rules=None, answered=60
):
    return Evaluation.model_validate(
        {
            "id": "eval_1",
            "cases": 60,
            "verdict": verdict,
            "rules": rules or [rule("max_regression"), rule()],
            "metrics": {
                "candidate": side(0.8, target_perplexity=estimate(1.5)),
                "baseline": side(0.9),
                "exact_difference": difference or estimate(0.0, -0.02, 0.02),
                "agreement": agreement
                and {
                    "cases": answered,
                    "exact": estimate(agreement, low=round(agreement - 0.05, 3)),
                    "fields": fields,
                    "semantic": estimate(0.99),
                    "similarity": estimate(0.95),
                },
            },
        }
    )


def decided(found, *, has_references=True, is_json=True):
    return decide(
        found,
        has_references=has_references,
        is_json=is_json,
        margin=0.05,
        agreement=0.8,
        training_rows=60,
        base="small",
    )


def test_not_worse_and_through_the_gate_passes():
    decision = decided(evaluation())
    assert decision.passed
    assert decision.advice == ()


@pytest.mark.parametrize(("low", "passed"), [(-0.05, True), (-0.051, False)])
def test_lower_bound_of_the_difference_decides(low, passed):
    found = evaluation(difference=estimate(0.0, low, 0.1))
    assert decided(found).passed is passed


def test_closed_gate_is_not_yet_however_near_the_answers_are():
    found = evaluation(verdict="fail", rules=[rule("min_exact_match", passed=False), rule()])
    decision = decided(found)
    assert not decision.passed
    assert decision.criteria[1].sentence == "The rule min_exact_match."


@pytest.mark.parametrize(
    ("answered", "has_references", "passed"),
    [(60, True, True), (59, True, False), (15, False, True), (14, False, False)],
)
def test_too_few_cases_show_nothing_however_alike_they_are(answered, has_references, passed):
    alike = evaluation(answered=answered, difference=estimate(0.0, 0.0, 0.0), agreement=0.95)
    decision = decided(alike, has_references=has_references)
    assert decision.passed is passed
    assert decision.criteria[0].passed is passed
    assert f"answered {answered} of 60 cases" in decision.criteria[0].sentence


def test_old_model_that_answered_nothing_is_compared_with_nothing():
    assert not decided(evaluation(agreement=None)).passed


@pytest.mark.parametrize(("exact", "passed"), [(0.85, True), (0.84, False)])
def test_without_right_answers_the_old_ones_have_to_be_met(exact, passed):
    closed = evaluation(
        verdict="fail", agreement=exact, rules=[rule("max_regression", passed=False), rule()]
    )
    assert decided(closed, has_references=False).passed is passed


def test_answers_in_json_are_met_field_by_field():
    found = evaluation(agreement=0.1, fields=estimate(0.95))
    assert decided(found, has_references=False).passed


def test_fields_of_some_answers_decide_nothing_about_the_others():
    found = evaluation(agreement=0.1, fields=estimate(0.95))
    decision = decided(found, has_references=False, is_json=False)
    assert not decision.passed
    assert "exact level: 10.0%" in decision.criteria[2].sentence


def case(line, agreement):
    answer = {"answer": "x", "error": None}
    none = {"answer": None, "error": "busy"}
    return {
        "line": line,
        "expected": "x",
        "agreement": agreement,
        "candidate": answer,
        "baseline": answer if agreement else none,
    }


def agreeing(fields, *, exact=False):
    return {"exact": exact, "fields": fields, "similarity": 0.5}


def test_one_old_answer_that_is_no_json_makes_a_mixed_set():
    json_case, unanswered = case(1, agreeing({"a": True})), case(2, None)
    assert are_json([json_case, unanswered])
    assert not are_json([json_case, unanswered, case(3, agreeing(None))])


def test_case_without_an_old_answer_is_no_difference():
    rows = [case(1, agreeing(None)), case(2, None), case(3, agreeing(None, exact=True))]
    asked = [question_of({"messages": [{"role": "user", "content": "a"}]})] * 3
    assert [found.line for found in differences_of(rows, asked)] == [1]


def test_workload_of_a_tuned_base_begins_with_its_root(tmp_path):
    order = Order(
        name="moved",
        model="ft:old",
        service="",
        job="",
        files={},
        base="ft:small:default:first:abcd1234",
        epochs=None,
        seed=7,
        max_answer_tokens=0,
    )
    terms = Terms(
        cases=60, prices=None, budget=None, machine_price=None, margin=0.05, agreement=0.8
    )
    screen, folder = Screen(make_console(stderr=True)), Folder(tmp_path)
    with opened(folder.journal) as journal:
        work = Import(order, terms, Connection(), screen, folder, journal, "moved-1", None)
        commands = next_commands(work, "ft:old", "ft:new", evaluation())
    assert any("workloads create moved --base small --alias ft:old" in line for line in commands)


def test_agreement_in_other_words_decides_nothing():
    found = evaluation(agreement=0.1)  # with a semantic level of 0.99
    assert not decided(found, has_references=False).passed


def test_rule_about_general_text_holds_without_right_answers_too():
    found = evaluation(verdict="fail", rules=[rule(passed=False)])
    decision = decided(found, has_references=False)
    assert not decision.passed
    assert "fewer epochs" in " ".join(decision.advice)


def test_advice_says_what_to_do_next():
    advice = " ".join(decided(evaluation(difference=estimate(-0.3, -0.4, -0.2))).advice)
    assert "more epochs" in advice
    assert "these were 60" in advice
    assert "bigger base than small" in advice


def facts(**more):
    found = evaluation()
    return Facts(
        **{
            "name": "listings",
            "written_at": "2026-11-26 08:00:00 UTC",
            "old_model": f"ft:old:{EVIL}",
            "old_base": "gpt-4o-mini",
            "service": "https://api.openai.com/v1",
            "model": "ft:new",
            "base": "small",
            "job": "ftjob-1",
            "training_rows": 60,
            "training_seconds": 30.0,
            "trained_tokens": 1000,
            "has_references": True,
            "origin": "validation file",
            "notes": (EVIL,),
            "evaluation": found,
            "cost": Cost(before=1.25, after=None, training=None, goldens=0.1),
            "differing": 3,
            "differences": (
                Difference(
                    line=2,
                    question=f"user: {EVIL}",
                    expected=None,
                    old=f"``` `````\n{EVIL}",
                    new="a & b < c",
                    similarity=0.25,
                ),
            ),
            "decision": decided(found),
            "commands": (f"curl '{EVIL}'",),
            **more,
        }
    )


class _Seen(HTMLParser):
    """Tags, addresses and handlers of a page."""

    def __init__(self):
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def test_page_holds_nothing_of_an_answer_as_markup():
    text = page(facts())
    seen = _Seen()
    seen.feed(text)
    assert not seen.tags & {"script", "img", "link", "iframe", "a", "form", "object"}
    assert not {name for name in seen.attributes if name.startswith("on")}
    assert not seen.attributes & {"src", "href"}
    assert "&lt;script&gt;" in text
    assert "a &amp; b &lt; c" in text
    assert "default-src 'none'" in text


def test_page_shows_intervals_as_bars():
    text = page(facts())
    assert 'aria-label="0.90, 0.85 to 0.95"' in text
    assert "<svg" in text


def test_markdown_fences_answers_and_escapes_the_rest():
    text = markdown(facts())
    assert "``````text\n``` `````\n" in text  # a fence longer than any in the answer
    outside = re.sub(r"(?s)(`{3,})text\n.*?\n\1(?!`)", "", text)
    assert "<script>" not in outside
    assert "\\<script\\>" in outside
    assert "| exact | 90.0% (85.0% to 95.0%) |" in text


def test_both_forms_say_the_same_verdict_costs_and_unknowns():
    for text in (markdown(facts()), page(facts())):
        assert "Verdict: pass" in text
        assert "1.2500" in text
        assert "not known" in text  # of the old model's perplexity
        assert "machine-price" in text
    failed = facts(decision=decided(evaluation(difference=estimate(-0.3, -0.4, -0.2))))
    for text in (markdown(failed), page(failed)):
        assert "Verdict: not yet" in text
        assert "What to do" in text


def test_facts_are_read_back_as_they_were_written():
    assert Facts.model_validate_json(facts().model_dump_json()) == facts()


def test_report_without_recorded_answers_has_no_agreement():
    found = facts(evaluation=evaluation(agreement=None))
    assert "Agreement with the old answers" not in markdown(found)
    assert "Agreement with the old answers" not in page(found)


@pytest.mark.parametrize(("failed", "speed"), [(0, "20.0"), (30, "40.0"), (60, "not known")])
def test_speed_is_that_of_the_answers(failed, speed):
    found = evaluation().model_dump()
    found["metrics"]["candidate"] |= {"output_tokens": 120, "failed_answers": failed}
    rows = comparison(facts(evaluation=Evaluation.model_validate(found)))
    (new,) = [new for name, _, new in rows if name.startswith("tokens a second")]
    assert new == speed
