"""
The steps of an evaluation: answers, likelihoods of the expected answers, the general text,
nearness to recorded answers if there are any, verdict.

A step does what is missing, as much as fits into one task. What it does not get done, or what a
dying worker leaves behind, is still missing at the next one.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any, Protocol, cast

from services.evaluation import repository
from services.evaluation.adapters.model_server import Question, Reply, prefixed
from services.evaluation.domain.grading import grade
from services.evaluation.domain.metrics import TextScore
from services.evaluation.general import paragraphs
from services.evaluation.models import CaseRow, EvaluationRow, Side
from services.evaluation.repository import KnownModel
from services.evaluation.service.comparing import CompareAnswers
from services.evaluation.service.conclusion import conclude
from services.evaluation.service.evaluator import Evaluator, Record, Suite
from services.evaluation.service.subjects import load_subjects
from services.evaluation.settings import EvaluationSettings
from shared.db import UnitOfWork
from shared.ids import Digest

# More than fit into a step by their tokens.
_SCORED_AT_MOST = 256
_COMPARED_AT_MOST = 64
# Room for a closing bracket, or a longer spelling of a short answer.
_SPARE_TOKENS = 16


class Step(Protocol):
    def perform(self, evaluator: Evaluator) -> Record:
        """Do it, outside any transaction."""
        ...


def plan_step(
    uow: UnitOfWork, row: EvaluationRow, settings: EvaluationSettings, starts: int
) -> Step:
    """
    What comes next.

    Args:
        uow: Sees what is missing.
        row: The evaluation.
        settings: How much a step does.
        starts: Failed attempts at this step; each halves it, so that a slow machine gets by.

    Raises:
        Missing: A model was deleted meanwhile.
    """
    subjects = load_subjects(uow, row.model, row.baseline, recorded=row.recorded)
    suite = Suite(uow.project, Digest(row.digest), subjects, row.recorded)
    size = max(1, settings.cases_per_step >> starts)
    if unanswered := repository.list_unanswered(uow, row.id, subjects.sides, size):
        return AnswerCases(suite, unanswered, max(1, settings.answers_at_once >> starts))
    tokens = settings.score_tokens_per_step >> starts
    if unscored := repository.list_unscored(uow, row.id, subjects.sides, _SCORED_AT_MOST):
        return ScoreCases(suite, unscored, tokens)
    for name, model in subjects.readers_of_general_text.items():
        unread = paragraphs(subjects.base)[len(row.general.get(name, {"nll": ()})["nll"]) :]
        if unread:
            return ReadGeneralText(suite, model, unread, tokens)
    if row.recorded and (pairs := repository.list_uncompared(uow, row.id, _COMPARED_AT_MOST)):
        return CompareAnswers(suite, pairs, tokens)
    return Conclude()


@dataclass(frozen=True, slots=True)
class AnswerCases:
    """Both sides answer the next cases at once."""

    suite: Suite
    cases: Sequence[CaseRow]
    at_once: int

    def perform(self, evaluator: Evaluator) -> Record:
        settings = evaluator.settings
        ends_at = time.monotonic() + settings.step_seconds
        sides = self.suite.subjects.sides
        urls = {
            side: evaluator.server.load(
                evaluator.weights(self.suite, sides[cast("Side", side)]),
                seconds=settings.step_seconds,
            )
            for side in sorted({case.side for case in self.cases})
        }
        layouts = evaluator.layouts(self.suite, {case.line for case in self.cases})
        replies = evaluator.server.answer(
            [
                Question(
                    urls[case.side],
                    layouts[case.line].prompt,
                    answer_limit(layouts[case.line].longest, settings.max_tokens),
                )
                for case in self.cases
            ],
            at_once=self.at_once,
            seconds=ends_at - time.monotonic(),
        )
        return partial(_record_answers, list(zip(self.cases, replies, strict=True)))


@dataclass(frozen=True, slots=True)
class ScoreCases:
    """How likely one side finds the next expected answers, up to a number of tokens."""

    suite: Suite
    cases: Sequence[CaseRow]
    max_tokens: int

    def perform(self, evaluator: Evaluator) -> Record:
        side = self.cases[0].side
        chosen = self._chosen(side)
        layouts = evaluator.layouts(self.suite, {case.line for case in chosen})
        weights = evaluator.weights(self.suite, self.suite.subjects.sides[cast("Side", side)])
        found = [layouts[case.line] for case in chosen]
        nll = evaluator.server.score(
            weights,
            [prefixed(layout.prompt, layout.target) for layout in found],
            seconds=evaluator.settings.step_seconds,
        )
        return partial(_record_scores, list(zip(chosen, nll, strict=True)))

    def _chosen(self, side: str) -> list[CaseRow]:
        cases = [case for case in self.cases if case.side == side]
        lengths = ((case.input_tokens or 0) + (case.target_tokens or 0) for case in cases)
        return cases[: fit_into(self.max_tokens, lengths)]


@dataclass(frozen=True, slots=True)
class ReadGeneralText:
    """How likely one model finds the next paragraphs of the general text."""

    suite: Suite
    model: KnownModel
    unread: Sequence[Sequence[int]]
    max_tokens: int

    def perform(self, evaluator: Evaluator) -> Record:
        texts = self.unread[: fit_into(self.max_tokens, map(len, self.unread))]
        nll = evaluator.server.score(
            evaluator.weights(self.suite, self.model),
            # The first token has nothing before it, so it is given and not scored.
            [prefixed(tokens[:1], tokens[1:]) for tokens in texts],
            seconds=evaluator.settings.step_seconds,
        )
        score = TextScore(tuple(nll), tuple(len(tokens) - 1 for tokens in texts))
        return partial(_record_general, self.model.name, score)


@dataclass(frozen=True, slots=True)
class Conclude:
    """Metrics and verdict; reads and writes only the database."""

    def perform(self, evaluator: Evaluator) -> Record:
        del evaluator
        return conclude


def _record_answers(
    answers: Sequence[tuple[CaseRow, Reply | None]], uow: UnitOfWork, _row: EvaluationRow
) -> None:
    for case, reply in answers:
        if reply is not None:
            repository.record_case(uow, case, _graded(case, reply))


def _graded(case: CaseRow, reply: Reply) -> dict[str, Any]:
    graded = grade(case.expected, reply.text)
    return {
        "answer": reply.text if reply.error is None else None,
        "exact": graded.exact and reply.error is None,
        "fields": graded.fields,
        "error": reply.error,
        "is_cut": reply.is_cut,
        "output_tokens": reply.output_tokens,
        "latency_ms": reply.latency_ms,
    }


def _record_scores(
    scores: Sequence[tuple[CaseRow, float]], uow: UnitOfWork, _row: EvaluationRow
) -> None:
    for case, nll in scores:
        repository.record_case(uow, case, {"nll": nll})


def _record_general(name: str, score: TextScore, _uow: UnitOfWork, row: EvaluationRow) -> None:
    read = row.general.get(name, {"nll": [], "tokens": []})
    known = {"nll": [*read["nll"], *score.nll], "tokens": [*read["tokens"], *score.tokens]}
    row.general = {**row.general, name: known}


def fit_into(limit: int, lengths: Iterable[int]) -> int:
    """How many of *lengths*, from the first on, fit into *limit* together; at least one."""
    return max(1, sum(total <= limit for total in accumulate(lengths)))


def answer_limit(longest_tokens: int, most: int) -> int:
    """
    Longest answer worth waiting for, tokens: half as long again as expected or recorded, and some.

    A model that was never tuned rambles; what it says beyond this makes it neither right nor
    the same.
    """
    return min(most, longest_tokens * 3 // 2 + _SPARE_TOKENS)
