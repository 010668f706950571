"""Rates moved along the odds scale, where a step means the same near 0 and near 1."""

from __future__ import annotations


def shifted(rate: float, ratio: float) -> float:
    """The rate whose odds are *ratio* times those of *rate*; 0 < rate < 1, ratio > 0."""
    return ratio * rate / (1 - rate + ratio * rate)
