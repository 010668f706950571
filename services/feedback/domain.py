"""Pure decisions of feedback: what a label says, and what a correction teaches."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from shared.errors import Invalid

Thumb = Literal["up", "down"]
_GOOD_RATING = 4


@dataclass(frozen=True, slots=True)
class Label:
    """
    What somebody said about one answer; any of it may be missing, not all.

    Attributes:
        success: The caller's own verdict.
        rating: 1 to 5.
        thumb: `up` or `down`.
        correction: The answer that would have been right.
        comment: Free text; not an outcome.
    """

    success: bool | None = None
    rating: int | None = None
    thumb: Thumb | None = None
    correction: str | None = None
    comment: str | None = None

    def __post_init__(self) -> None:
        """
        Raises:
            Invalid: Nothing was said.
        """
        if all(
            said is None
            for said in (self.success, self.rating, self.thumb, self.correction, self.comment)
        ):
            raise Invalid(
                "The feedback says nothing; give success, rating, thumb, correction or comment.",
                code="empty_feedback",
            )


@dataclass(frozen=True, slots=True)
class Outcome:
    """Success or failure of one inference, and which part of the label said so."""

    success: bool
    source: Literal["success", "correction", "thumb", "rating"]


def outcome_of(label: Label, answer: str | None) -> Outcome | None:
    """
    The outcome a label stands for, by the order: success, correction, thumb, rating.

    Args:
        label: What was said.
        answer: The text that was answered, or None while it is not known.

    Returns:
        None when the label holds no outcome, or only a correction whose answer is not known yet.
    """
    if label.success is not None:
        return Outcome(label.success, "success")
    if label.correction is not None:
        if answer is None:
            return None
        return Outcome(is_same_answer(answer, label.correction), "correction")
    if label.thumb is not None:
        return Outcome(label.thumb == "up", "thumb")
    if label.rating is not None:
        return Outcome(label.rating >= _GOOD_RATING, "rating")
    return None


def is_same_answer(answer: str, correction: str) -> bool:
    """Whether two answers say the same: as JSON where both are, else but for white space."""
    left, right = _json_or_none(answer), _json_or_none(correction)
    if left is not None and right is not None:
        return bool(left == right)
    return " ".join(answer.split()) == " ".join(correction.split())


def training_row(messages: list[dict[str, Any]], correction: str) -> str:
    """A line of training data: the request as it was, answered as it should have been."""
    row = {"messages": [*messages, {"role": "assistant", "content": correction}]}
    return json.dumps(row, ensure_ascii=False) + "\n"


def _json_or_none(text: str) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return json.loads(text)
    except ValueError:
        return None
