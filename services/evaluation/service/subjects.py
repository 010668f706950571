"""Which models an evaluation is about."""

from __future__ import annotations

from dataclasses import dataclass

from services.evaluation import repository
from services.evaluation.models import Side
from services.evaluation.repository import KnownModel
from shared.db import UnitOfWork
from shared.errors import Invalid, Missing
from shared.rendering.bases import BaseModel, find_base


@dataclass(frozen=True, slots=True)
class Subjects:
    """The models of both sides, and the base they share; recorded answers need no model."""

    base: BaseModel
    candidate: KnownModel
    baseline: KnownModel | None

    @property
    def sides(self) -> dict[Side, KnownModel]:
        """The sides there are."""
        if self.baseline is None:
            return {"candidate": self.candidate}
        return {"candidate": self.candidate, "baseline": self.baseline}

    @property
    def readers_of_general_text(self) -> dict[str, KnownModel]:
        """Every model, by name, whose likelihood of the general text is needed."""
        models = [*self.sides.values(), KnownModel(self.base.name, self.base.name)]
        return {model.name: model for model in models}


def load_subjects(uow: UnitOfWork, model: str, baseline: str | None, *, recorded: bool) -> Subjects:
    """
    The models with these names. A tuned model is compared with its base unless told otherwise.

    Args:
        uow: Sees the models of the project.
        model: The candidate.
        baseline: The other one, or None.
        recorded: The baseline's answers are recorded, so no model of that name is looked for.

    Raises:
        Missing: There is no such model, or its base is not installed.
        Invalid: The two are the same, or have different bases.
    """
    candidate = _load_model(uow, model, "model")
    compared = None if recorded else _load_compared(uow, candidate, baseline)
    base = find_base(candidate.base)
    if base is None:
        raise Missing(
            f"The base '{candidate.base}' of '{model}' is not installed here.",
            code="base_not_installed",
            param="model",
        )
    return Subjects(base, candidate, compared)


def _load_compared(
    uow: UnitOfWork, candidate: KnownModel, baseline: str | None
) -> KnownModel | None:
    other = baseline or (candidate.base if candidate.name != candidate.base else None)
    if other is None:
        return None
    compared = _load_model(uow, other, "baseline")
    _check_pair(candidate, compared)
    return compared


def _load_model(uow: UnitOfWork, name: str, param: str) -> KnownModel:
    base = find_base(name)
    found = KnownModel(name, name) if base else repository.find_tuned(uow, name)
    if found is None:
        raise Missing(f"There is no model '{name}'.", code="model_not_found", param=param)
    return found


def _check_pair(candidate: KnownModel, baseline: KnownModel) -> None:
    if candidate.name == baseline.name:
        raise Invalid(
            "A model cannot be its own baseline; name another one.",
            code="same_model",
            param="baseline",
        )
    if candidate.base != baseline.base:
        raise Invalid(
            f"'{candidate.name}' is tuned on {candidate.base}, '{baseline.name}' on "
            f"{baseline.base}; compare models of one base.",
            code="different_bases",
            param="baseline",
        )
