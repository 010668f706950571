"""A curve of losses as a few lines of characters."""

from __future__ import annotations

from collections.abc import Sequence

_DOTS = ((0x40, 0x04, 0x02, 0x01), (0x80, 0x20, 0x10, 0x08))
_BLANK = 0x2800


def draw(values: Sequence[float], *, width: int = 48, height: int = 5) -> list[str]:
    """
    The values from left to right in Braille dots, two a column and four a line.

    Args:
        values: At least one, finite.
        width: Columns at most.
        height: Lines.

    Returns:
        Lines of equal length, with the largest value at the first and the smallest at the last.
    """
    points = _resampled(values, min(2 * width, 4 * len(values)))
    low, high = min(points), max(points)
    span = (high - low) or 1.0
    rows = 4 * height
    cells = [[0] * ((len(points) + 1) // 2) for _ in range(height)]
    for column, value in enumerate(points):
        level = round((value - low) / span * (rows - 1))
        cells[height - 1 - level // 4][column // 2] |= _DOTS[column % 2][level % 4]
    lines = ["".join(chr(_BLANK + cell) for cell in line) for line in cells]
    labels = [f"{high:8.3f} ", *[" " * 9] * (height - 2), f"{low:8.3f} "]
    return [label + line for label, line in zip(labels, lines, strict=True)]


def _resampled(values: Sequence[float], count: int) -> list[float]:
    if len(values) == 1:
        return [values[0]] * count
    return [values[round(at * (len(values) - 1) / (count - 1))] for at in range(count)]
