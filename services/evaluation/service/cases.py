"""The cases of a new evaluation: those its models are to answer, and those already answered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from services.evaluation.domain.grading import grade
from services.evaluation.examples import Example, Layout
from services.evaluation.models import CaseRow, EvaluationRow, Side
from services.evaluation.recorded import RecordedAnswer


def open_cases(
    row: EvaluationRow, layouts: Sequence[tuple[Example, Layout]], sides: Iterable[Side]
) -> list[CaseRow]:
    """A case without an answer for each example and side."""
    return [_case(row, example, layout, side) for example, layout in layouts for side in sides]


def recorded_cases(row: EvaluationRow, layouts: Sequence[tuple[Example, Layout]]) -> list[CaseRow]:
    """The baseline's cases with the answers that it once gave, graded."""
    return [
        _answered(_case(row, example, layout, "baseline"), example.recorded)
        for example, layout in layouts
        if example.recorded is not None
    ]


def _case(row: EvaluationRow, example: Example, layout: Layout, side: Side) -> CaseRow:
    return CaseRow(
        evaluation_id=row.id,
        line=example.line,
        side=side,
        project=row.project,
        expected=layout.expected,
        input_tokens=len(layout.prompt),
        target_tokens=len(layout.target),
    )


def _answered(case: CaseRow, said: RecordedAnswer) -> CaseRow:
    graded = grade(case.expected, said.answer or "")
    case.answer, case.error = said.answer, said.error
    case.exact, case.fields = graded.exact and said.error is None, graded.fields
    case.latency_ms = said.latency_ms
    # As the outside model counted: its tokens are not ours.
    case.input_tokens, case.output_tokens = said.input_tokens, said.output_tokens
    return case
