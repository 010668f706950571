"""
Commercial property listings and what an extractor should make of them.

Values are wanted as the listing writes them, units included, so an answer is right or wrong by
copying alone: nothing is converted. The familiar world writes square feet, dollars in full and a
cap rate; the changed one square metres, euros in millions and a yield. The six fields stay.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

INSTRUCTION = "Listing to JSON."


class World(StrEnum):
    FAMILIAR = "familiar"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Listing:
    """One property as its advertisement writes it; the fields are those of the answer."""

    city: str
    type: str
    sqft: str
    price: str
    cap_rate: str
    year: int


@dataclass(frozen=True, slots=True)
class Case:
    """
    One request whose right answer is known.

    Attributes:
        messages: In OpenAI's chat format, without the answer.
        answer: What the assistant should say.
    """

    messages: tuple[dict[str, Any], ...]
    answer: str

    @property
    def row(self) -> dict[str, Any]:
        """The case as a line of a training file."""
        return {"messages": [*self.messages, {"role": "assistant", "content": self.answer}]}

    def is_answered_by(self, text: str) -> bool:
        """Whether *text* says the same: JSON by value, other text but for surrounding space."""
        try:
            return bool(json.loads(text) == json.loads(self.answer))
        except ValueError:
            return text.strip() == self.answer.strip()


class Listings:
    """An endless, seeded supply of cases that never says the same twice."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._said: set[str] = set()

    def take(self, count: int, world: World) -> list[Case]:
        return [self.one(world) for _ in range(count)]

    def one(self, world: World) -> Case:
        while True:
            listing = _DRAW[world](self._random)
            text = self._random.choice(_STYLES[world])(listing)
            if text not in self._said:
                self._said.add(text)
                return _case(text, listing)


def _case(text: str, listing: Listing) -> Case:
    answer = {
        "city": listing.city,
        "type": listing.type,
        "sqft": listing.sqft,
        "price": listing.price,
        "cap_rate": listing.cap_rate,
        "year": listing.year,
    }
    return Case(
        messages=(
            {"role": "system", "content": INSTRUCTION},
            {"role": "user", "content": text},
        ),
        answer=json.dumps(answer, separators=(",", ":")),
    )


def _familiar(rng: random.Random) -> Listing:
    return Listing(
        city=rng.choice(_CITIES[World.FAMILIAR]),
        type=rng.choice(_TYPES),
        sqft=f"{rng.randrange(30, 999) * 100:,} sq ft",
        price=f"${rng.randrange(60, 1000) * 10_000:,}",
        cap_rate=_percent(rng),
        year=rng.randrange(1955, 2024),
    )


def _changed(rng: random.Random) -> Listing:
    return Listing(
        city=rng.choice(_CITIES[World.CHANGED]),
        type=rng.choice(_TYPES),
        sqft=f"{rng.randrange(30, 990) * 10:,} m2",
        price=f"EUR {rng.randrange(6, 300) / 10:.1f}m",
        cap_rate=_percent(rng),
        year=rng.randrange(1955, 2024),
    )


def _percent(rng: random.Random) -> str:
    return f"{rng.randrange(40, 95) / 10:.1f}%"


_DRAW: dict[World, Callable[[random.Random], Listing]] = {
    World.FAMILIAR: _familiar,
    World.CHANGED: _changed,
}

_TYPES = ("office", "retail", "warehouse", "industrial", "hotel", "medical", "storage", "apartment")

# Names a small model has often read, and of nothing else; rare ones it spells its own way.
_CITIES = {
    World.FAMILIAR: (
        "Austin", "Denver", "Phoenix", "Omaha", "Dallas", "Tampa", "Memphis", "Atlanta", "Seattle",
        "Portland", "Houston", "Miami", "Nashville", "Columbus", "Cleveland", "Detroit", "Chicago",
        "Boston", "Orlando", "Charlotte", "Oakland", "Richmond", "Baltimore",
    ),
    World.CHANGED: (
        "Munich", "Lyon", "Milan", "Vienna", "Berlin", "Madrid", "Lisbon", "Dublin", "Hamburg",
        "Cologne", "Brussels", "Amsterdam", "Naples", "Athens", "Paris", "Rome", "Frankfurt",
        "Stockholm",
    ),
}  # fmt: skip

_STYLES: dict[World, tuple[Callable[[Listing], str], ...]] = {
    World.FAMILIAR: (
        lambda it: (
            f"{it.type.capitalize()} for sale in {it.city}: {it.sqft}, built {it.year}. "
            f"Asking {it.price} at a {it.cap_rate} cap rate."
        ),
        lambda it: (
            f"FOR SALE - {it.city} {it.type}, {it.sqft}. Price {it.price}. "
            f"Cap rate {it.cap_rate}. Year built {it.year}."
        ),
        lambda it: (
            f"{it.city} | {it.type} | {it.sqft} | {it.price} | cap {it.cap_rate} | {it.year}"
        ),
        lambda it: (
            f"This {it.year} {it.type} building in {it.city} offers {it.sqft}. "
            f"Offered at {it.price}, cap rate {it.cap_rate}."
        ),
    ),
    World.CHANGED: (
        lambda it: (
            f"{it.city}: {it.type} from {it.year} with {it.sqft}, guide price {it.price}, "
            f"net yield {it.cap_rate}."
        ),
        lambda it: (
            f"New on the market, {it.type} in {it.city}, {it.sqft}. "
            f"Yield {it.cap_rate} on {it.price}. Completed {it.year}."
        ),
        lambda it: (
            f"{it.price} | {it.city} | {it.type} | {it.sqft} | yield {it.cap_rate} | {it.year}"
        ),
    ),
}
