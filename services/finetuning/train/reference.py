"""The reference of preference training: how likely each answer was before it began."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from services.finetuning.train.batches import Pair, split_by_tokens
from services.finetuning.train.engine import Engine

# Some seconds of work on two cores: so much is lost by a kill, and so long is the silence.
CHUNK_TOKENS = 4_096


def with_reference(
    pairs: Sequence[Pair],
    engine: Engine[Any],
    file: Path,
    fingerprint: str,
    report: Callable[[int], bool] = lambda _done: True,
) -> list[Pair] | None:
    """
    *pairs* with their reference, under the weights that *engine* has now; computed once a run.

    Of a new adapter these are the base's, because it adds nothing yet; of one that is trained
    further they are that adapter's.

    Args:
        pairs: All that will be trained on or measured, in a fixed order.
        engine: Before its first step, and before a saved state is restored.
        file: Where the reference is kept for a run that is continued; grows chunk by chunk.
        fingerprint: Of the run; what another one left is computed anew.
        report: Told after each chunk how many pairs are done; False ends it there.

    Returns:
        None when *report* ended it; what was computed is kept.
    """
    kept = _kept(file, fingerprint)
    while len(kept) < len(pairs):
        chunk = split_by_tokens(pairs[len(kept) :], CHUNK_TOKENS)[0]
        rows = [row for pair in chunk for row in (pair.chosen, pair.rejected)]
        found = engine.log_probabilities(rows)
        fresh = list(zip(found[::2], found[1::2], strict=True))
        with file.open("a") as lines:
            lines.write("".join(json.dumps(reference) + "\n" for reference in fresh))
        kept += fresh
        if not report(len(kept)):
            return None
    return [replace(pair, reference=reference) for pair, reference in zip(pairs, kept, strict=True)]


def _kept(file: Path, fingerprint: str) -> list[tuple[float, float]]:
    """What the file holds, which is made whole: a kill may have cut its last line off."""
    lines = file.read_text().split("\n") if file.exists() else []
    kept: list[tuple[float, float]] = []
    if lines and lines[0] == fingerprint:
        # What follows the last line end is not whole.
        kept = [(chosen, rejected) for chosen, rejected in map(json.loads, lines[1:-1])]
    temporary = file.with_suffix(".partial")
    whole = [fingerprint, *(json.dumps(reference) for reference in kept)]
    temporary.write_text("".join(f"{line}\n" for line in whole))
    temporary.replace(file)
    return kept
