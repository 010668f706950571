"""Decisions about releases: their life cycle and the canary's verdict."""

from services.releases.domain.canary import CanaryOutcome, CanaryState, begin, fold
from services.releases.domain.decision import (
    CanaryEvidence,
    Decision,
    GuardrailEvidence,
    decide,
    guarantee,
)
from services.releases.domain.policy import CanaryPolicy, Guardrail
from services.releases.domain.states import TRANSITIONS, ReleaseAction, ReleaseState, next_state
from services.releases.domain.success import Verdict

__all__ = [
    "TRANSITIONS",
    "CanaryEvidence",
    "CanaryOutcome",
    "CanaryPolicy",
    "CanaryState",
    "Decision",
    "Guardrail",
    "GuardrailEvidence",
    "ReleaseAction",
    "ReleaseState",
    "Verdict",
    "begin",
    "decide",
    "fold",
    "guarantee",
    "next_state",
]
