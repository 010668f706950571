"""What a canary is judged by."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from shared.errors import Invalid


class Guardrail(StrEnum):
    """A harm that may roll a canary back and never promotes it."""

    ERROR = "error"
    TOKENS = "tokens"
    LATENCY = "latency_ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryPolicy:
    """
    The numbers of one canary. They are fixed when it begins: changing a margin after looking at
    outcomes would void the bounds, so a new policy version applies to the next canary.

    Attributes:
        margin: How much worse than the control, in points of success / 100, is too much.
        alpha_promote: Bound on P(ever promoted | worse by *margin* or more).
        alpha_rollback: Bound on P(ever rolled back | not worse), once for success and once for all
            guardrails together.
        alpha_share: Bound on P(stopped for its share | assignment works). Small, because the cause
            is a bug and not bad luck.
        shares: Share of the units in the canary, step by step, rising.
        ramp_margins: Step i is left when "worse by ramp_margins[i]" is rejected at alpha_promote.
        cap_outcomes: Canary outcomes after which a canary without a verdict is inconclusive.
        cap_days: Days after which it is.
        guardrails: Those that may roll back. The others are counted and shown, which is right for
            latency where both arms share cores and for tokens where longer answers are wanted.
        guardrail_tolerance: By how much a harm's rate may be higher, 0 to 0.2.

    Raises:
        Invalid: A number is out of range; `param` names it.

    Source of the defaults: simulations of false verdicts and sample sizes in tests/property.
    """

    margin: float = 0.05
    alpha_promote: float = 0.05
    alpha_rollback: float = 0.05
    alpha_share: float = 0.001
    shares: tuple[float, ...] = (0.05, 0.25, 0.5)
    ramp_margins: tuple[float, ...] = (0.20, 0.10)
    cap_outcomes: int = 10_000
    cap_days: float = 7.0
    guardrails: tuple[Guardrail, ...] = (Guardrail.ERROR, Guardrail.TOKENS, Guardrail.LATENCY)
    guardrail_tolerance: float = 0.0

    def __post_init__(self) -> None:
        _require("margin", "lies in (0, 1)", holds=0 < self.margin < 1)
        for name in ("alpha_promote", "alpha_rollback", "alpha_share"):
            _require(name, "lies in (0, 0.5]", holds=0 < getattr(self, name) <= 0.5)
        rising = all(a < b for a, b in zip(self.shares, self.shares[1:], strict=False))
        in_range = bool(self.shares) and self.shares[0] > 0 and self.shares[-1] < 1
        _require("shares", "rises from step to step, between 0 and 1", holds=rising and in_range)
        enough = len(self.ramp_margins) >= len(self.shares) - 1
        in_range = all(0 < margin < 1 for margin in self.ramp_margins)
        _require(
            "ramp_margins", "has one number per step, each in (0, 1)", holds=enough and in_range
        )
        _require("cap_outcomes", "is at least 1", holds=self.cap_outcomes >= 1)
        _require("cap_days", "is positive", holds=self.cap_days > 0)
        unique = len(set(self.guardrails)) == len(self.guardrails)
        _require("guardrails", "names each guardrail once", holds=unique)
        in_range = 0 <= self.guardrail_tolerance <= 0.2
        _require("guardrail_tolerance", "lies in [0, 0.2]", holds=in_range)


def _require(param: str, rule: str, *, holds: bool) -> None:
    if not holds:
        raise Invalid(
            f"The canary policy's {param} is out of range: it {rule}.",
            code="canary_policy_invalid",
            param=param,
        )
