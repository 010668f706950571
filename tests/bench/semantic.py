"""
What the semantic level of an evaluation can tell, measured with the embeddings of the default base.

`python -m tests.bench.semantic`

Each row of `semantic.jsonl` has an answer, a paraphrase of it, and a contradiction that is worded
alike: another day, another number, a negation. They and the answers of other rows (mismatched) are
compared with the answer as an evaluation does it, once with each text read twice, as there, and
once with each read once. Printed are the median similarity, how often a pair is nearer than a
mismatched one (0.5: by chance), and the share of pairs at or above each threshold.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, median

from services.evaluation.domain.agreement import Comparison, agree, similarity
from services.evaluation.service.comparing import read_twice
from shared.rendering.bases import BaseModel, find_base
from shared.rendering.tokenizer import encode
from shared.serving_client import ServingClient
from tests.integration.serving.model_servers import BASE, run_server

ROWS = [
    json.loads(line)
    for line in Path(__file__).with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()
]
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
# As many short texts as are embedded within a second or two.
AT_ONCE = 16

Vector = Sequence[float]
Read = Callable[[BaseModel, str], list[int]]


def main() -> None:
    with run_server() as server:
        for name, read in (("read twice", read_twice), ("read once", encode)):
            _report(name, _vectors(server.client, read))


def _vectors(client: ServingClient, read: Read) -> dict[str, list[Vector]]:
    base = find_base(BASE)
    assert base is not None
    found: dict[str, list[Vector]] = {}
    for kind in ROWS[0]:
        tokens = [read(base, row[kind]) for row in ROWS]
        parts = [tokens[at : at + AT_ONCE] for at in range(0, len(tokens), AT_ONCE)]
        found[kind] = [vector for part in parts for vector in client.embed(part, base=BASE)]
    return found


def _report(name: str, vectors: dict[str, list[Vector]]) -> None:
    answers = vectors["answer"]
    others = [*answers[1:], answers[0]]
    zero = _background([_cosine(*pair) for pair in zip(answers, others, strict=True)])
    cosines = {
        kind: [_cosine(*pair) for pair in zip(answers, vectors[kind], strict=True)]
        for kind in ("paraphrase", "contradiction")
    }
    cosines["mismatched"] = [
        _cosine(ours, theirs) for ours in answers for theirs in answers if ours is not theirs
    ]
    near = {kind: [_near(cosine, zero) for cosine in found] for kind, found in cosines.items()}
    print(f"\n{name}: background {zero:.3f}, {len(ROWS)} rows")
    heads = "".join(f"{f'>= {threshold}':>8}" for threshold in THRESHOLDS)
    print(f"{'':14}{'pairs':>7}{'median':>8}{'nearer':>8}{heads}")
    for kind, found in near.items():
        chance = _nearer(cosines[kind], cosines["mismatched"])
        shares = [fmean(value >= threshold for value in found) for threshold in THRESHOLDS]
        numbers = "".join(f"{number:8.3f}" for number in (median(found), chance, *shares))
        print(f"{kind:14}{len(found):7}{numbers}")


def _background(mismatched: Sequence[float]) -> float:
    found = agree([Comparison(False, None, None, cosine) for cosine in mismatched])
    assert found is not None
    assert found.background is not None
    return found.background


def _near(cosine: float, zero: float) -> float:
    return similarity(Comparison(False, None, cosine, None), zero)


def _nearer(pairs: Sequence[float], mismatched: Sequence[float]) -> float:
    """Probability that one of *pairs* is nearer than one of *mismatched*; ties count half."""
    return fmean((ours > theirs) + (ours == theirs) / 2 for ours in pairs for theirs in mismatched)


def _cosine(left: Vector, right: Vector) -> float:
    return sum(ours * theirs for ours, theirs in zip(left, right, strict=True))


if __name__ == "__main__":
    main()
