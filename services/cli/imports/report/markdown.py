"""The report as Markdown. Answers are other people's text, so they stand in fences."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from services.cli.imports.report import tables
from services.cli.imports.report.facts import Difference, Facts

# Whatever Markdown or HTML in it reads as markup.
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|!~&])")


def markdown(facts: Facts) -> str:
    """The whole report."""
    decision = facts.decision
    blocks = [
        f"# Parity report: {_plain(facts.name)}",
        f"**Verdict: {'pass' if decision.passed else 'not yet'}**",
        _items(_criterion(each.name, each.passed, each.sentence) for each in decision.criteria),
        *_section("What to do", _items(map(_plain, decision.advice))),
        *_section("What was compared", _table(("", ""), tables.summary(facts))),
        *_section("Notes", _items(map(_plain, facts.notes))),
        *_section("Agreement with the old answers", _table(("level", "share"), _agreements(facts))),
        *_section(
            "Old and new", _table(("", facts.old_model, facts.model), tables.comparison(facts))
        ),
        *_section("Cost", _table(("", "money"), tables.costs(facts.cost))),
        *_section("How to read this", _items(tables.REMARKS)),
        *_section(f"Cases that differ: {facts.differing}", _cases(facts.differences)),
        *_section("Next", _fenced("\n".join(facts.commands))),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _agreements(facts: Facts) -> list[tuple[str, str]]:
    return [(name, tables.share(found)) for name, found in tables.agreements(facts)]


def _section(title: str, body: str) -> tuple[str, str]:
    return (f"## {title}", body) if body else ("", "")


def _criterion(name: str, passed: bool, sentence: str) -> str:  # noqa: FBT001 - fields of a criterion
    return f"{'pass' if passed else 'not yet'}, {name}: {_plain(sentence)}"


def _items(lines: Iterable[str]) -> str:
    return "\n".join(f"* {line}" for line in lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        f"| {' | '.join(_plain(cell) if line is not lines[1] else cell for cell in line)} |"
        for line in lines
    )


def _cases(differences: Sequence[Difference]) -> str:
    return "\n\n".join(map(_case, differences))


def _case(case: Difference) -> str:
    near = "" if case.similarity is None else f", similarity {case.similarity:.2f}"
    parts = [("Question", case.question), ("Old", case.old), ("New", case.new)]
    if case.expected is not None:
        parts.insert(1, ("Right", case.expected))
    texts = "\n\n".join(f"{name}:\n\n{_fenced(text)}" for name, text in parts)
    return f"### Case {case.line}{near}\n\n{texts}"


def _fenced(text: str) -> str:
    """A block of code, whose fence is longer than any in the text."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def _plain(text: str) -> str:
    """Text in one line without markup."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))
