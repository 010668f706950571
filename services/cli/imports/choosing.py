"""Which rows are asked about, and which are left to train on: never the same."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from services.cli.errors import CommandFailed
from services.cli.imports.chats import Chat

# What the API asks of a training file.
MIN_TRAINING_ROWS = 10
# Of a training file without a validation file, this share is held out at most.
_HELD_OUT_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Choice:
    """
    Attributes:
        cases: Asked about, in the order in which they are asked; no two ask the same.
        training, validation: What is left of the files, without anything that is asked about.
        origin: Where the cases come from, for people.
        unfit: Rows that could not be cases, because the base here cannot read them.
        left_out: Training rows that ask what a case asks.
    """

    cases: tuple[Chat, ...]
    training: tuple[Chat, ...]
    validation: tuple[Chat, ...]
    origin: str
    unfit: int
    left_out: int


def choose(
    training: Sequence[Chat],
    validation: Sequence[Chat],
    prompts: Sequence[Chat],
    *,
    count: int,
    seed: int,
    fits: Callable[[Chat], bool],
) -> Choice:
    """
    Cases from the prompts that were given, else from the validation file, else held out.

    Args:
        training: At least one.
        validation: Of the job; may be empty.
        prompts: Given to be asked; may be empty.
        count: Most cases.
        seed: Of the sample; the first n of more cases are the sample of n.
        fits: Whether the base here can read it.

    Raises:
        CommandFailed: No row can be a case, or too few are left to train on.
    """
    origin, pool = _pool(training, validation, prompts)
    if not (prompts or validation):
        held_out = int(len(training) * _HELD_OUT_SHARE)
        if not held_out:
            raise CommandFailed(
                f"{len(training)} training rows are too few to hold some out to ask about. Give "
                "something to ask with --prompts or --validation-file, or more rows with "
                "--training-file."
            )
        count = min(count, held_out)
    cases, unfit = _sample(pool, count, seed, fits)
    if not cases:
        raise CommandFailed(
            f"None of the {len(pool)} rows of the {origin} can be asked about: {unfit} are too "
            "long for the base or cannot be written for it. Give others with --prompts, or another "
            "--base."
        )
    asked = {case.key for case in cases}
    left = tuple(chat for chat in training if chat.key not in asked)
    if len(left) < MIN_TRAINING_ROWS:
        raise CommandFailed(
            f"{len(left)} training rows are left beside the {len(cases)} that are asked about, and "
            f"{MIN_TRAINING_ROWS} are needed. Give rows to train on with --training-file, or "
            "something else to ask with --prompts."
        )
    return Choice(
        cases=cases,
        training=left,
        validation=tuple(chat for chat in validation if chat.key not in asked),
        origin=origin,
        unfit=unfit,
        left_out=len(training) - len(left),
    )


def _pool(
    training: Sequence[Chat], validation: Sequence[Chat], prompts: Sequence[Chat]
) -> tuple[str, Sequence[Chat]]:
    if prompts:
        return "given prompts", prompts
    if validation:
        return "validation file", validation
    return "training file, held out", training


def _sample(
    pool: Sequence[Chat], count: int, seed: int, fits: Callable[[Chat], bool]
) -> tuple[tuple[Chat, ...], int]:
    shuffled = _distinct(pool)
    random.Random(seed).shuffle(shuffled)
    cases: list[Chat] = []
    unfit = 0
    for chat in shuffled:
        if len(cases) == count:
            break
        if fits(chat):
            cases.append(chat)
        else:
            unfit += 1
    return tuple(cases), unfit


def _distinct(chats: Iterable[Chat]) -> list[Chat]:
    return list({chat.key: chat for chat in chats}.values())
