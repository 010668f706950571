"""Decisions about releases: their life cycle and the canary's verdict."""

from services.releases.domain.canary import CanaryOutcome, CanaryState, begin, fold
from services.releases.domain.decision import (
    CanaryEvidence,
    Decision,
    GuardrailEvidence,
    decide,
    guarantee,
)
from services.releases.domain.evidence import (
    AnsweredRequest,
    Ramp,
    judge_label,
    judge_record,
    mark_first,
    planned_share,
)
from services.releases.domain.policy import CanaryPolicy, Guardrail
from services.releases.domain.states import TRANSITIONS, ReleaseAction, ReleaseState, next_state
from services.releases.domain.success import Verdict

__all__ = [
    "TRANSITIONS",
    "AnsweredRequest",
    "CanaryEvidence",
    "CanaryOutcome",
    "CanaryPolicy",
    "CanaryState",
    "Decision",
    "Guardrail",
    "GuardrailEvidence",
    "Ramp",
    "ReleaseAction",
    "ReleaseState",
    "Verdict",
    "begin",
    "decide",
    "fold",
    "guarantee",
    "judge_label",
    "judge_record",
    "mark_first",
    "next_state",
    "planned_share",
]
