"""
The verdict: may the new model take the old one's place?

Where every case has an answer that is known as right, the new model may not be worse than the old
one: the gate passes, and the lower bound of the paired difference in exact match is at least minus
the margin. Where the old answers are all there is, the new model has to repeat them: the rules of
the gate that do not compare pass, and the lower bound of the agreement, by field where every old
answer is a JSON object and exact else, is at least the threshold. Either way the old model has to
have answered cases enough to show a difference of that size. Agreement in other words is shown and
decides nothing (decisions 0021, 0022).
"""

from __future__ import annotations

import math

from services.cli.imports.report.facts import Criterion, Decision, Estimate, Evaluation

# The rule of the gate that compares with the recorded answers.
_COMPARING = "max_regression"
_GENERAL = "max_general_perplexity_ratio"
# Where more rows usually still help (OpenAI's guide speaks of 50 to 100 as a beginning).
_FEW_ROWS = 500


def decide(
    evaluation: Evaluation,
    *,
    has_references: bool,
    is_json: bool,
    margin: float,
    agreement: float,
    training_rows: int,
    base: str,
) -> Decision:
    """
    Args:
        evaluation: Completed.
        has_references: As in `Facts`.
        is_json: Every old answer is a JSON object; of others the share of fields says nothing.
        margin: By so much exact match may be worse, a share above 0.
        agreement: Threshold of the agreement, a share below 1.
        training_rows: That were trained on.
        base: That was trained.
    """
    compared = (
        _difference(evaluation, margin)
        if has_references
        else _agreement(evaluation, agreement, is_json=is_json)
    )
    criteria = (
        _enough(evaluation, margin if has_references else 1 - agreement),
        _gate(evaluation, is_comparing=has_references),
        compared,
    )
    passed = all(criterion.passed for criterion in criteria)
    advice = () if passed else _advice(evaluation, compared, training_rows, base)
    return Decision(passed=passed, criteria=criteria, advice=advice)


def _enough(evaluation: Evaluation, allowed: float) -> Criterion:
    """
    Where nothing differs, resampling shows no width at all; the rule of three bounds what may.

    Source: Hanley and Lippman-Hand 1983: none in n is at most 3/n, with 95 % confidence.
    """
    needed = math.ceil(round(3 / allowed, 6))
    answered = evaluation.answered
    return Criterion(
        name="enough cases",
        passed=answered >= needed,
        sentence=(
            f"The old model answered {answered} of {evaluation.cases} cases; to tell a difference "
            f"of {allowed:.1%} it takes {needed}."
        ),
    )


def _gate(evaluation: Evaluation, *, is_comparing: bool) -> Criterion:
    rules = [rule for rule in evaluation.rules if is_comparing or rule.rule != _COMPARING]
    failed = [rule for rule in rules if not rule.passed]
    passed = evaluation.verdict == "pass" if is_comparing else not failed
    sentence = " ".join(rule.sentence for rule in failed or rules)
    return Criterion(name="gate", passed=passed, sentence=sentence)


def _difference(evaluation: Evaluation, margin: float) -> Criterion:
    found = evaluation.metrics.exact_difference
    return Criterion(
        name="not worse",
        passed=found.low >= -margin,
        sentence=(
            f"Exact match, new minus old: {_signed(found)}; the lower bound must be at least "
            f"{-margin:+.1%}."
        ),
    )


def _agreement(evaluation: Evaluation, threshold: float, *, is_json: bool) -> Criterion:
    found = evaluation.metrics.agreement
    if found is None:
        return Criterion(name="agreement", passed=False, sentence="No old answer was recorded.")
    level, measured = "exact", found.exact
    if found.fields and is_json:
        level, measured = "field", found.fields
    return Criterion(
        name="agreement",
        passed=measured.low >= threshold,
        sentence=(
            f"Agreement with the old answers, {level} level: {measured.estimate:.1%} (95 % "
            f"interval {measured.low:.1%} to {measured.high:.1%}); the lower bound must be at "
            f"least {threshold:.1%}."
        ),
    )


def _advice(
    evaluation: Evaluation, compared: Criterion, training_rows: int, base: str
) -> tuple[str, ...]:
    forgets = any(rule.rule == _GENERAL and not rule.passed for rule in evaluation.rules)
    found = [f"Ask about more cases than {evaluation.cases} (--cases): intervals become narrower."]
    if forgets:
        found.append("It forgets general text: train fewer epochs (--epochs).")
    elif not compared.passed:
        found.append("Train longer: more epochs (--epochs).")
    if forgets or not compared.passed:
        if training_rows < _FEW_ROWS:
            found.append(f"Train on more rows: these were {training_rows}.")
        found.append(f"Train a bigger base than {base} (--base), if one is installed.")
    found.append("Each of these is an import of another --name; read the cases below first.")
    return tuple(found)


def _signed(found: Estimate) -> str:
    return f"{found.estimate:+.1%} (95 % interval {found.low:+.1%} to {found.high:+.1%})"
