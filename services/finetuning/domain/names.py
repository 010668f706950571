"""Names of the models a job makes."""

from __future__ import annotations

import re

from shared.errors import Invalid
from shared.ids import ModelId

MAX_SUFFIX_CHARACTERS = 64
_SUFFIX = re.compile(rf"[a-z0-9_-]{{1,{MAX_SUFFIX_CHARACTERS}}}")


def name_model(base: str, project: str, suffix: str | None, part: str) -> ModelId:
    """
    `ft:{base}:{project}:{suffix}:{part}`; without a suffix its place stays empty.

    Args:
        base: Name of the base model, also when an adapter was trained further.
        project: Whose model it is.
        suffix: What the caller calls it.
        part: Eight random characters that make the name unique.
    """
    return ModelId(f"ft:{base}:{project}:{suffix or ''}:{part}")


def name_checkpoint(base: str, project: str, suffix: str | None, part: str, step: int) -> ModelId:
    """`ft:...:ckpt-step-{step}`; *part* is the checkpoint's own, not that of the final model."""
    return ModelId(f"{name_model(base, project, suffix, part)}:ckpt-step-{step}")


def check_suffix(suffix: str | None) -> None:
    """
    Raises:
        Invalid: The suffix has other characters than a-z, 0-9, `-` and `_`, none, or too many.
    """
    if suffix is not None and not _SUFFIX.fullmatch(suffix):
        raise Invalid(
            f"suffix must have 1 to {MAX_SUFFIX_CHARACTERS} characters out of a-z, 0-9, '-', '_'.",
            code="invalid_suffix",
            param="suffix",
        )


def suffix_from(name: str) -> str:
    """A suffix that resembles *name*, which may hold any character."""
    return re.sub(r"[^a-z0-9_-]+", "-", name.lower())[:MAX_SUFFIX_CHARACTERS].strip("-")
