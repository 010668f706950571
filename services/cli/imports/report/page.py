"""The report as one HTML page: no script, no network, and nothing of an answer is markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from services.cli.imports.report import tables
from services.cli.imports.report.facts import Difference, Estimate, Facts

_STYLE = """
:root { color-scheme: light dark; --ink: #1a1c1e; --dim: #5c6166; --line: #d8dbde; --back: #fff;
  --panel: #f5f6f7; --old: #8a6d3b; --new: #1f6f8b; --good: #2c7a4b; --bad: #a33a2c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ea; --dim: #9aa0a6; --line: #3a3f44;
  --back: #16181a; --panel: #1f2225; --old: #d1ad6f; --new: #6cc0dc; --good: #6fc493;
  --bad: #e58a7c; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back);
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2.2rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
th { color: var(--dim); font-weight: 500; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--panel); margin: 0;
  padding: .6rem .8rem; border-radius: 4px; font-size: .85rem; }
.verdict { display: inline-block; padding: .2rem .8rem; border-radius: 4px; font-weight: 600;
  border: 2px solid; } .pass { color: var(--good); } .not-yet { color: var(--bad); }
.dim { color: var(--dim); } .sides { display: grid; gap: .8rem;
  grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); }
.case { margin: 1.4rem 0; } .case h3 { font-size: .95rem; margin: 0 0 .4rem; }
.label { font-size: .8rem; color: var(--dim); margin: .4rem 0 .2rem; }
svg { display: block; width: 100%; height: 1.4rem; } .axis { stroke: var(--line); }
line.old { stroke: var(--old); } line.new { stroke: var(--new); }
rect.old { fill: var(--old); } rect.new { fill: var(--new); }
""".strip()
# Nothing but the style above is ever loaded or run.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(facts: Facts) -> str:
    """The whole report."""
    decision = facts.decision
    word, kind = ("pass", "pass") if decision.passed else ("not yet", "not-yet")
    body = [
        f"<h1>Parity report: {escape(facts.name)}</h1>",
        f'<p><span class="verdict {kind}">Verdict: {word}</span></p>',
        _items(f"{_mark(each.passed)}, {each.name}: {each.sentence}" for each in decision.criteria),
        *_section("What to do", _items(decision.advice)),
        *_section("What was compared", _table((), tables.summary(facts))),
        *_section("Notes", _items(facts.notes)),
        *_section("Agreement with the old answers", _agreements(facts)),
        *_section(tables.quality_title(facts), _qualities(facts)),
        *_section(
            "Old and new", _table(("", facts.old_model, facts.model), tables.comparison(facts))
        ),
        *_section("Cost", _table((), tables.costs(facts.cost))),
        *_section("How to read this", _items(tables.REMARKS)),
        *_section(f"Cases that differ: {facts.differing}", "".join(map(_case, facts.differences))),
        *_section("Next", f"<pre>{escape(chr(10).join(facts.commands))}</pre>"),
    ]
    return _document(facts.name, "\n".join(part for part in body if part))


def _document(name: str, body: str) -> str:
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Parity report: {escape(name)}</title>\n<style>\n{_STYLE}\n</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _section(title: str, body: str) -> tuple[str, str]:
    return (f"<h2>{escape(title)}</h2>", body) if body else ("", "")


def _items(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def _mark(passed: bool) -> str:  # noqa: FBT001 - a word for each of its two values
    return "pass" if passed else "not yet"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = f"<tr>{''.join(f'<th>{escape(cell)}</th>' for cell in head)}</tr>" if head else ""
    lines = "".join(
        f"<tr><th>{escape(first)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in rest)}</tr>"
        for first, *rest in rows
    )
    return f"<table>{top}{lines}</table>"


def _agreements(facts: Facts) -> str:
    rows = [
        (name, tables.share(found), _bar(found, "new"))
        for name, found in tables.agreements(facts)
        if found is not None
    ]
    return _bars(rows)


def _qualities(facts: Facts) -> str:
    rows = []
    for name, old, new in tables.qualities(facts):
        if old is not None:
            rows.append((f"{name}, old", tables.share(old), _bar(old, "old")))
        if new is not None:
            rows.append((f"{name}, new", tables.share(new), _bar(new, "new")))
    return _bars(rows)


def _bars(rows: Sequence[tuple[str, str, str]]) -> str:
    lines = "".join(
        f'<tr><th>{escape(name)}</th><td>{escape(cell)}</td><td style="width:50%">{bar}</td></tr>'
        for name, cell, bar in rows
    )
    return f"<table>{lines}</table>" if lines else ""


def _bar(found: Estimate, side: str) -> str:
    """An interval on the way from 0 to 1, and a mark at the estimate."""
    low, at, high = map(_percent, (found.low, found.estimate, found.high))
    return (
        f'<svg viewBox="0 0 101 10" preserveAspectRatio="none" role="img" '
        f'aria-label="{found.estimate:.2f}, {found.low:.2f} to {found.high:.2f}">'
        '<line class="axis" x1="0" y1="5" x2="101" y2="5" stroke-width="1"/>'
        f'<line class="{side}" x1="{low:.2f}" y1="5" x2="{high + 1:.2f}" y2="5" stroke-width="3"/>'
        f'<rect class="{side}" x="{at:.2f}" y="0" width="1" height="10" stroke="none"/></svg>'
    )


def _percent(share: float) -> float:
    return 100 * min(1.0, max(0.0, share))


def _case(case: Difference) -> str:
    near = "" if case.similarity is None else f", similarity {case.similarity:.2f}"
    right = _text("right", case.expected) if case.expected is not None else ""
    return (
        f'<div class="case"><h3>Case {case.line}<span class="dim">{near}</span></h3>'
        f"{_text('question', case.question)}{right}"
        f'<div class="sides"><div>{_text("old", case.old)}</div>'
        f"<div>{_text('new', case.new)}</div></div></div>"
    )


def _text(label: str, text: str) -> str:
    return f'<div class="label">{label}</div><pre>{escape(text)}</pre>'
