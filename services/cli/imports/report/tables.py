"""The tables of a report, which all forms of it show: names, and cells as people read them."""

from __future__ import annotations

from services.cli.imports.report.facts import Cost, Estimate, Facts, Latency, Side

Row = tuple[str, str, str]
UNKNOWN = "not known"


def summary(facts: Facts) -> list[tuple[str, str]]:
    """What was compared, by name."""
    base = f" (base {facts.old_base})" if facts.old_base else ""
    return [
        ("old model", f"{facts.old_model}{base}"),
        ("answered by", facts.service or "logged answers"),
        ("new model", f"{facts.model} (base {facts.base})"),
        ("job", facts.job),
        ("trained on", f"{facts.training_rows} rows, {_count(facts.trained_tokens)} tokens"),
        ("cases", f"{facts.evaluation.cases}, from: {facts.origin}"),
        ("right answers", "known for every case" if facts.has_references else _UNREFERENCED),
        ("evaluation", facts.evaluation.id),
        ("written", facts.written_at),
    ]


def agreements(facts: Facts) -> list[tuple[str, Estimate | None]]:
    """Levels of agreement; None where a level does not apply."""
    found = facts.evaluation.metrics.agreement
    if found is None:
        return []
    return [
        ("exact", found.exact),
        ("JSON fields", found.fields),
        ("semantic", found.semantic),
        ("mean similarity", found.similarity),
    ]


def quality_title(facts: Facts) -> str:
    """What exact match is measured against."""
    return "Right answers" if facts.has_references else "Right answers, where unknown the old ones"


def qualities(facts: Facts) -> list[tuple[str, Estimate | None, Estimate | None]]:
    """Shares of right answers, old and new."""
    old, new = facts.evaluation.metrics.baseline, facts.evaluation.metrics.candidate
    return [
        ("exact match", old.exact_match, new.exact_match),
        ("JSON fields", old.field_accuracy, new.field_accuracy),
    ]


def comparison(facts: Facts) -> list[Row]:
    """Both models side by side: name, old, new."""
    metrics = facts.evaluation.metrics
    old, new = metrics.baseline, metrics.candidate
    rows = [(name, share(before), share(after)) for name, before, after in qualities(facts)]
    rows += [
        ("perplexity of the right answers", *_both(old, new, "target_perplexity")),
        ("perplexity of general text", *_both(old, new, "general_perplexity")),
        ("latency, median", _latency(old.latency, "p50_ms"), _latency(new.latency, "p50_ms")),
        ("latency, 95 of 100", _latency(old.latency, "p95_ms"), _latency(new.latency, "p95_ms")),
        ("tokens read", _count(old.input_tokens), _count(new.input_tokens)),
        ("tokens written", _count(old.output_tokens), _count(new.output_tokens)),
        ("tokens a second, one answer", _speed(facts, old), _speed(facts, new)),
        ("failed answers", str(old.failed_answers), str(new.failed_answers)),
        ("answers cut", str(old.cut_answers), str(new.cut_answers)),
    ]
    return rows


def costs(cost: Cost) -> list[tuple[str, str]]:
    """Money, by what it is for."""
    return [
        ("1,000 answers before", _money(cost.before, "give --price-input and --price-output")),
        ("1,000 answers here", _money(cost.after, "give --machine-price")),
        ("training here", _money(cost.training, "give --machine-price")),
        ("answers recorded for this report", _money(cost.goldens, "no prices were given")),
    ]


REMARKS = (
    "Intervals are 95 %.",
    "Semantic agreement tells what an answer is about, not if it is right: it decides nothing.",
    "Likelihoods of the old model are not to be had, so it has no perplexity.",
    "Old latency was measured one answer at a time, new latency while several were asked at once.",
    "The cost here is that of a machine that gives one answer at a time: an upper bound.",
    "Tokens are counted by each model's own tokenizer.",
)
_UNREFERENCED = "not known for every case; the old answers stand for them"


def share(found: Estimate | None) -> str:
    """A share with its interval."""
    if found is None:
        return "-"
    return f"{found.estimate:.1%} ({found.low:.1%} to {found.high:.1%})"


def _both(old: Side, new: Side, name: str) -> tuple[str, str]:
    return _number(getattr(old, name)), _number(getattr(new, name))


def _number(found: Estimate | None) -> str:
    return f"{found.estimate:.2f} ({found.low:.2f} to {found.high:.2f})" if found else UNKNOWN


def _latency(found: Latency | None, name: str) -> str:
    return f"{getattr(found, name):,.0f} ms" if found else UNKNOWN


def _speed(facts: Facts, side: Side) -> str:
    if side.latency is None or side.output_tokens is None or not side.latency.mean_ms:
        return UNKNOWN
    answered = facts.evaluation.cases - side.failed_answers
    if not answered:
        return UNKNOWN
    return f"{side.output_tokens / (side.latency.mean_ms / 1000 * answered):.1f}"


def _count(number: int | None) -> str:
    return UNKNOWN if number is None else f"{number:,}"


def _money(amount: float | None, otherwise: str) -> str:
    return f"{amount:,.4f}" if amount is not None else f"{UNKNOWN}; {otherwise}"
