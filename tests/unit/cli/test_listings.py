"""The generator of listings: seeded, short, unambiguous."""

from __future__ import annotations

import json

import pytest

from services.cli.demo.demonstration import answer_tokens
from services.cli.demo.listings import Listings, World
from services.cli.demo.material import generated
from shared.rendering.bases import find_base
from shared.rendering.chat import count_tokens, render

BASE = find_base("smollm2-135m-instruct")
FIELDS = ["city", "type", "sqft", "price", "cap_rate", "year"]


@pytest.mark.parametrize("world", World)
def test_same_seed_gives_the_same_listings(world):
    assert Listings(5).take(20, world) == Listings(5).take(20, world)
    assert Listings(5).take(20, world) != Listings(6).take(20, world)


@pytest.mark.parametrize("world", World)
def test_rows_have_at_most_120_tokens(world):
    counts = [count_tokens(BASE, case.row["messages"]) for case in Listings(1).take(400, world)]
    assert max(counts) <= 120


@pytest.mark.parametrize("world", World)
def test_answer_has_the_six_fields_and_only_copies_of_the_listing(world):
    for case in Listings(2).take(200, world):
        answer = json.loads(case.answer)
        assert list(answer) == FIELDS
        text = case.messages[-1]["content"].lower()
        assert all(str(value).lower() in text for value in answer.values())


def test_no_listing_comes_twice():
    listings = Listings(3)
    cases = listings.take(300, World.FAMILIAR) + listings.take(300, World.CHANGED)
    assert len({case.messages[-1]["content"] for case in cases}) == 600


def test_changed_world_speaks_of_square_metres_millions_and_a_yield():
    for case in Listings(4).take(100, World.CHANGED):
        text = case.messages[-1]["content"].lower()
        assert " m2" in text
        assert "eur " in text
        assert "yield" in text
        assert "sq ft" not in text
        assert "cap" not in text.replace("cape", "")


def test_every_world_has_several_styles():
    for world in World:
        beginnings = {
            case.messages[-1]["content"].split()[0] for case in Listings(9).take(200, world)
        }
        assert len(beginnings) > 3


def test_answers_are_compared_as_json():
    case = Listings(1).one(World.FAMILIAR)
    spaced = json.dumps(dict(reversed(json.loads(case.answer).items())), indent=1)
    assert case.is_answered_by(spaced)
    assert not case.is_answered_by(case.answer.replace("{", '{"more":1,'))
    assert not case.is_answered_by(case.answer[:-1])
    assert not case.is_answered_by("")


@pytest.mark.parametrize("world", World)
def test_later_answers_fit_into_the_longest_generation(world):
    longest = answer_tokens(generated(rows=64, seed=8))
    for case in Listings(9).take(200, world):
        trained = render(BASE, case.row["messages"], add_generation_prompt=False).trained
        assert sum(trained) <= longest
