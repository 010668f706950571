"""The end of an evaluation: metrics, verdict, and everybody who waits for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

from services.evaluation import repository
from services.evaluation.domain.agreement import Comparison, agree
from services.evaluation.domain.gate import Bounds, Verdict, judge
from services.evaluation.domain.metrics import (
    CaseResult,
    TextScore,
    exact_difference,
    measure,
    perplexity_ratio,
)
from services.evaluation.models import CaseRow, EvaluationRow
from shared.contracts.evaluation import EvaluationCompleted
from shared.db import UnitOfWork
from shared.policy import GateRules, load_workload


def conclude(uow: UnitOfWork, row: EvaluationRow) -> None:
    """Measure both sides, apply the gate of the workload's policy as it is now, and say so."""
    answered = repository.list_side(uow, row.id, "candidate")
    candidate = _results(answered)
    baseline = _results(repository.list_side(uow, row.id, "baseline"))
    general = {name: _text_score(found) for name, found in row.general.items()}
    ours = measure(candidate, general[row.model])
    # Its name may be that of a model here; what was recorded is another's.
    read = None if row.recorded else general.get(str(row.baseline))
    theirs = measure(baseline, read) if baseline else None
    difference = exact_difference(candidate, baseline) if baseline else None
    agreement = agree([Comparison(**case.comparison) for case in answered if case.comparison])
    ratio = perplexity_ratio(general[row.model], general[str(row.base)])
    row.metrics = {
        "candidate": asdict(ours),
        "baseline": asdict(theirs) if theirs else None,
        "exact_difference": asdict(difference) if difference else None,
        "general_ratio": asdict(ratio),
        "agreement": asdict(agreement) if agreement else None,
    }
    verdict = judge(ours.exact_match, difference, ratio, _bounds(uow, row))
    _complete(uow, row, verdict)


def _bounds(uow: UnitOfWork, row: EvaluationRow) -> Bounds:
    rules = GateRules()
    if row.workload_id is not None:
        workload = load_workload(uow.session, row.workload_id)
        row.policy_version, rules = workload.policy_version, workload.policy.gate
    return Bounds(**rules.model_dump())


def _complete(uow: UnitOfWork, row: EvaluationRow, verdict: Verdict) -> None:
    said: Literal["pass", "fail"] = "pass" if verdict.passed else "fail"
    row.completed_at = uow.now
    row.state, row.verdict, row.reason = "completed", said, verdict.reason
    row.rules = [asdict(rule) for rule in verdict.rules]
    uow.emit(
        EvaluationCompleted(
            evaluation_id=row.id,
            model=row.model,
            workload_id=row.workload_id,
            cycle_id=row.cycle_id,
            verdict=said,
            reason=row.reason,
        )
    )
    uow.audit(
        "evaluation.completed",
        row.id,
        reason=f"{said}: {row.reason}"[:300],
        facts=_facts(row),
    )


def _facts(row: EvaluationRow) -> dict[str, Any]:
    """The numbers the verdict rests on, without the answers."""
    metrics = row.metrics or {}
    return {
        "model": row.model,
        "baseline": row.baseline,
        "recorded": row.recorded,
        "digest": row.digest,
        "cases": row.cases,
        "verdict": row.verdict,
        "policy_version": row.policy_version,
        "rules": [
            {name: rule[name] for name in ("rule", "passed", "measured", "bound")}
            for rule in row.rules
        ],
        "exact_match": metrics["candidate"]["exact_match"],
        "field_accuracy": metrics["candidate"]["field_accuracy"],
        "target_perplexity": metrics["candidate"]["target_perplexity"],
        "exact_difference": metrics["exact_difference"],
        "general_ratio": metrics["general_ratio"],
        "agreement": metrics["agreement"],
    }


def _results(cases: Sequence[CaseRow]) -> list[CaseResult]:
    return [
        CaseResult(
            exact=bool(case.exact),
            fields=case.fields,
            nll=case.nll,
            target_tokens=case.target_tokens or 0,
            latency_ms=case.latency_ms,
            input_tokens=case.input_tokens,
            output_tokens=case.output_tokens,
            is_cut=case.is_cut,
            error=case.error,
        )
        for case in cases
    ]


def _text_score(found: dict[str, list[Any]]) -> TextScore:
    return TextScore(nll=tuple(found["nll"]), tokens=tuple(found["tokens"]))
