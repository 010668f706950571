"""What a request for a job may ask for; bounds as in OpenAI's specification."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from services.finetuning.domain.methods import METHODS
from shared.contracts.finetuning import Hyperparameters
from shared.errors import Invalid

MAX_EPOCHS = 50
MAX_BATCH_SIZE = 256
MAX_BETA = 2.0
MAX_SEED = 2_147_483_647

Auto = Literal["auto"]
AUTO: Auto = "auto"


def read_hyperparameters(given: Mapping[str, object], path: str) -> Hyperparameters:
    """
    The hyperparameters in *given*; what is absent or null is `auto`.

    Args:
        given: `n_epochs`, `batch_size`, `learning_rate_multiplier`: numbers or `auto`.
        path: Where they stood in the request, for the message.

    Raises:
        Invalid: Names the field that is neither `auto` nor a number within its bounds.
    """
    return Hyperparameters(
        n_epochs=_whole(given.get("n_epochs"), MAX_EPOCHS, f"{path}.n_epochs"),
        batch_size=_whole(given.get("batch_size"), MAX_BATCH_SIZE, f"{path}.batch_size"),
        learning_rate_multiplier=_positive(
            given.get("learning_rate_multiplier"), f"{path}.learning_rate_multiplier"
        ),
    )


def read_beta(given: Mapping[str, object], path: str) -> float | Auto:
    """
    `beta` of preference training; absent or null is `auto`.

    Raises:
        Invalid: It is neither `auto` nor greater than 0 and at most 2.
    """
    beta = _positive(given.get("beta"), f"{path}.beta")
    if beta != AUTO and beta > MAX_BETA:
        raise _hyperparameter_error(
            f"a number greater than 0 and at most {MAX_BETA:g}", f"{path}.beta"
        )
    return beta


def check_method(kind: str) -> None:
    """
    Raises:
        Invalid: Training of this kind is not offered here; it never becomes another kind silently.
    """
    if kind in METHODS:
        return
    known = kind == "reinforcement"
    raise Invalid(
        f"method.type '{kind}' is {'not offered by this server' if known else 'unknown'}; "
        f"use one of {', '.join(METHODS)}.",
        code="unsupported_method" if known else "invalid_method",
        param="method.type",
    )


def check_seed(seed: int | None) -> None:
    """
    Raises:
        Invalid: The seed does not fit into 31 bits.
    """
    if seed is not None and not 0 <= seed <= MAX_SEED:
        raise Invalid(
            f"seed must be a whole number from 0 to {MAX_SEED}.", code="invalid_seed", param="seed"
        )


def _whole(value: object, most: int, param: str) -> int | Auto:
    if value is None or value == AUTO:
        return AUTO
    # True is an int in Python and no number in JSON.
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most:
        return value
    raise _hyperparameter_error(f"a whole number from 1 to {most}", param)


def _positive(value: object, param: str) -> float | Auto:
    if value is None or value == AUTO:
        return AUTO
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number) and number > 0:
            return number
    raise _hyperparameter_error("a number greater than 0", param)


def _hyperparameter_error(expected: str, param: str) -> Invalid:
    return Invalid(f"{param} must be 'auto' or {expected}.", code="invalid_value", param=param)
