"""How a dataset is put together: sampling, split, leakage, token counts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from services.ingestion.domain.files import Row
from services.ingestion.domain.findings import Finding, error, warning
from services.ingestion.domain.rows import prompt_key


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """
    Tokens of one row.

    Attributes:
        total: All of them.
        trained: Those that carry loss.
        longest: Of its longest conversation; a preference has two.
        kept: Those that still carry loss when that is cut; of two answers the fewer.
    """

    total: int
    trained: int
    longest: int
    kept: int


@dataclass(frozen=True, slots=True)
class TokenReport:
    """Token statistics of a set of rows; counts are of the target model's tokenizer."""

    total: int
    trained: int
    shortest: int
    median: int
    longest: int
    truncated_rows: int


def sample_rows(rows: Sequence[Row], max_rows: int | None, seed: str) -> list[Row]:
    """At most *max_rows* of *rows*, chosen by a seeded shuffle, in their original order."""
    if max_rows is None or len(rows) <= max_rows:
        return list(rows)
    chosen = random.Random(seed).sample(range(len(rows)), max_rows)
    return [rows[index] for index in sorted(chosen)]


def split_rows(rows: Sequence[Row], share: float, seed: str) -> tuple[list[Row], list[Row]]:
    """
    Hold out a share of the prompts, so that equal prompts never straddle the split.

    Args:
        rows: All rows.
        share: Of prompts held out, 0 to 0.5; 0 holds out none.
        seed: The same seed splits the same rows alike.

    Returns:
        Training rows and held-out rows, each in original order.
    """
    prompts = sorted({prompt_key(row.value) for row in rows})
    random.Random(seed).shuffle(prompts)
    held_out = set(prompts[: round(len(prompts) * share)])
    training = [row for row in rows if prompt_key(row.value) not in held_out]
    validation = [row for row in rows if prompt_key(row.value) in held_out]
    return training, validation


def find_leakage(training: Sequence[Row], validation: Sequence[Row]) -> list[Finding]:
    """Validation rows whose prompt also stands in the training rows: they measure memory."""
    trained = {prompt_key(row.value): row.line for row in training}
    return [
        warning(
            "train_validation_leak",
            row.line,
            "/messages",
            f"The prompt also stands on line {trained[key]} of the training rows.",
            "Remove it from one of the files; the validation loss looks better than it is.",
        )
        for row in validation
        if (key := prompt_key(row.value)) in trained
    ]


def count_rows(
    counts: Sequence[tuple[Row, TokenCounts]], most_tokens: int
) -> tuple[TokenReport, list[Finding]]:
    """
    Token statistics and what they say.

    Args:
        counts: The rows of one shard, and their tokens with the target model's tokenizer and
            template.
        most_tokens: Longest row the model is trained on; longer ones are cut at the end.

    Returns:
        The report, and findings: a warning per row that is cut, an error where nothing to learn
        would be left of it.
    """
    findings = [
        _over_limit(row, tokens, most_tokens)
        for row, tokens in counts
        if tokens.longest > most_tokens
    ]
    lengths = sorted(tokens.longest for _, tokens in counts)
    report = TokenReport(
        total=sum(tokens.total for _, tokens in counts),
        trained=sum(tokens.trained for _, tokens in counts),
        shortest=lengths[0] if lengths else 0,
        median=lengths[len(lengths) // 2] if lengths else 0,
        longest=lengths[-1] if lengths else 0,
        truncated_rows=len(findings),
    )
    return report, findings


def _over_limit(row: Row, tokens: TokenCounts, most_tokens: int) -> Finding:
    fix = "Shorten the example."
    if not tokens.kept:
        return error(
            "answer_cut",
            row.line,
            "",
            f"The row has {tokens.longest} tokens; cut to {most_tokens}, no answer is left.",
            fix,
        )
    return warning(
        "row_truncated",
        row.line,
        "",
        f"The row has {tokens.longest} tokens; the last {tokens.longest - most_tokens} are cut.",
        fix,
    )
