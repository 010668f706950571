"""The general text: plain prose of our own, to see what a model has forgotten."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from shared.rendering.bases import BaseModel
from shared.rendering.tokenizer import encode


@cache
def paragraphs(base: BaseModel) -> tuple[tuple[int, ...], ...]:
    """Its paragraphs as tokens of *base*, without any template."""
    text = files("services.evaluation").joinpath("general.txt").read_text(encoding="utf-8")
    return tuple(tuple(encode(base, part.strip())) for part in text.split("\n\n"))
