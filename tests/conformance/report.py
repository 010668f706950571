"""What the checks found, as a page: a row a check, with the reason where one does not pass."""

from __future__ import annotations

import platform
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import pytest

from tests.conformance.checks import EXCLUDED, MODES


@dataclass(frozen=True)
class Outcome:
    """
    One run of one check.

    Attributes:
        number: Of the check.
        proves: What it shows, in a sentence.
        mode: `normal` or `strict`.
        verdict: `pass`, `skipped` or `FAIL`.
        reason: Why it did not pass.
    """

    number: int
    proves: str
    mode: str
    verdict: str
    reason: str = ""

    @classmethod
    def of(cls, item: pytest.Item, number: int, outcome: pytest.TestReport) -> Outcome:
        proves = (item.function.__doc__ or item.name).strip().splitlines()[0]  # type: ignore[attr-defined]  # of a function
        called = getattr(item, "callspec", None)
        mode = called.params.get("client", "normal") if called else "normal"
        if outcome.skipped:
            return cls(number, proves, mode, "skipped", str(outcome.longrepr[-1]))  # type: ignore[index]  # of a skip it is a tuple
        if outcome.passed:
            return cls(number, proves, mode, "pass")
        return cls(number, proves, mode, "FAIL", str(outcome.longrepr).strip().splitlines()[-1])


def render(outcomes: Sequence[Outcome]) -> str:
    """The report in Markdown."""
    by_number: defaultdict[int, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_number[outcome.number].append(outcome)
    passed = sum(all(o.verdict == "pass" for o in found) for found in by_number.values())
    lines = [
        "# Conformance",
        "",
        (
            "What the unmodified `openai` client sees of a live local stack; `make conformance` "
            f"writes this page. openai {version('openai')}, Python {platform.python_version()}. "
            f"**{passed} of {len(by_number)} checks pass**; {len(EXCLUDED)} are not taken on."
        ),
        "",
        (
            "*Strict* is the client with `_strict_response_validation=True`, which refuses every "
            "field of an answer that is not as OpenAI documents it."
        ),
        "",
        "| check | proves | normal | strict | why not |",
        "| --- | --- | --- | --- | --- |",
        *(_row(number, by_number.get(number, ())) for number in _numbers(by_number)),
    ]
    return "\n".join(lines) + "\n"


def _numbers(by_number: Iterable[int]) -> list[int]:
    return sorted({*by_number, *EXCLUDED})


def _row(number: int, found: Sequence[Outcome]) -> str:
    if not found:
        return f"| {number} | | | | {EXCLUDED[number]} |"
    verdicts = {mode: _worst(o.verdict for o in found if o.mode == mode) for mode in MODES}
    reasons = "; ".join(dict.fromkeys(o.reason for o in found if o.reason)).replace("|", "\\|")
    return (
        f"| {number} | {found[0].proves} | {verdicts['normal']} | {verdicts['strict']} "
        f"| {reasons} |"
    )


_FROM_BAD_TO_GOOD = ("FAIL", "skipped", "pass")


def _worst(verdicts: Iterable[str]) -> str:
    return min(verdicts, key=_FROM_BAD_TO_GOOD.index, default="")
