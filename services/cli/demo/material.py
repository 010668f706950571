"""What the demonstration works with: the generator's listings, or the rows of the user's file."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Len
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from services.cli.demo.listings import Case, Listings, World
from services.cli.errors import CommandFailed

HELD_OUT_ROWS = 24
VALIDATION_ROWS = 16
# What the API asks of a training file.
MIN_TRAINING_ROWS = 10


@dataclass(frozen=True)
class Material:
    """
    Rows for each purpose, disjoint, and a supply of requests whose right answers are known.

    Attributes:
        training, validation, held_out: Cases; held-out ones are seen by no training.
        worlds: In which the requests can be asked; a file knows only one.
        source: Where it comes from, for people.
    """

    training: tuple[Case, ...]
    validation: tuple[Case, ...]
    held_out: tuple[Case, ...]
    supply: Supply
    worlds: tuple[World, ...]
    source: str


class Supply:
    """Requests of the simulated users, without end."""

    def __init__(self, listings: Listings | None, again: Sequence[Case] = ()) -> None:
        """
        Args:
            listings: Makes new ones.
            again: Without a generator: cases asked over and over.
        """
        self._listings = listings
        self._again = itertools.cycle(again)

    def one(self, world: World) -> Case:
        return self._listings.one(world) if self._listings else next(self._again)


def generated(*, rows: int, seed: int) -> Material:
    """Listings, *rows* of them for training."""
    listings = Listings(seed)
    return Material(
        training=tuple(listings.take(rows, World.FAMILIAR)),
        validation=tuple(listings.take(VALIDATION_ROWS, World.FAMILIAR)),
        held_out=tuple(listings.take(HELD_OUT_ROWS, World.FAMILIAR)),
        supply=Supply(listings),
        worlds=(World.FAMILIAR, World.CHANGED),
        source=f"generated listings, seed {seed}",
    )


def from_file(path: Path, *, rows: int | None, seed: int) -> Material:
    """
    The user's own rows, in OpenAI's chat format, shuffled and split.

    Args:
        path: JSON lines; the last message of each is the assistant's answer.
        rows: Most rows for training; all that are left by default.
        seed: Of the shuffle.

    Raises:
        CommandFailed: The file cannot be read, a line is no chat, or there are too few.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandFailed(f"{path} cannot be read: {error}.") from error
    cases = [_case(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    aside = HELD_OUT_ROWS + VALIDATION_ROWS
    if len(cases) < aside + MIN_TRAINING_ROWS:
        raise CommandFailed(
            f"{path} has {len(cases)} rows; the demonstration needs {aside + MIN_TRAINING_ROWS}: "
            f"{MIN_TRAINING_ROWS} to train on, {VALIDATION_ROWS} to validate, "
            f"{HELD_OUT_ROWS} held out."
        )
    random.Random(seed).shuffle(cases)
    held_out = tuple(cases[:HELD_OUT_ROWS])
    return Material(
        training=tuple(cases[aside:][:rows]),
        validation=tuple(cases[HELD_OUT_ROWS:aside]),
        held_out=held_out,
        supply=Supply(None, held_out),
        worlds=(World.FAMILIAR,),
        source=str(path),
    )


def jsonl(cases: Iterable[Case]) -> bytes:
    """The cases as a file in OpenAI's chat format."""
    return "".join(json.dumps(case.row, ensure_ascii=False) + "\n" for case in cases).encode()


def _case(path: Path, number: int, line: str) -> Case:
    try:
        row = _Row.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the line"
        raise CommandFailed(
            f"{path}, line {number} is no chat: {where}: {first['msg']}. Write one object a line: "
            '{"messages": [{"role": "user", ...}, {"role": "assistant", "content": "..."}]}'
        ) from error
    asked = tuple(message.model_dump(exclude_none=True) for message in row.messages[:-1])
    return Case(asked, row.messages[-1].content)


class _Message(BaseModel):
    model_config = ConfigDict(extra="allow")

    role: str
    content: str


class _Row(BaseModel):
    messages: Annotated[list[_Message], Len(2)]

    @field_validator("messages")
    @classmethod
    def _ends_with_an_answer(cls, messages: list[_Message]) -> list[_Message]:
        if messages[-1].role != "assistant":
            raise ValueError("the last message has to be the assistant's")
        return messages
