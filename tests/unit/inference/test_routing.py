"""Who answers a request."""

from __future__ import annotations

import pytest

from services.inference.domain.routing import Route, Served, Tables, choose_unit
from shared.ids import Digest, Project

A = Project("a")
FT = Served(A, "ft:base:a:x:1", "base", Digest("g"), Digest("p"))


def _route(**changes) -> Route:
    values = {
        "workload_id": "wl_1",
        "live_release": "rel_live",
        "live_model": "base",
        "canary_release": None,
        "canary_model": None,
        "canary_share": 0.0,
        "salt": "s",
        "fallback_model": None,
        "capture_content": False,
    }
    return Route(**(values | changes))


def _tables(route: Route) -> Tables:
    return Tables({(A, "shop"): route}, {(A, FT.model): FT}, lambda name: name == "base")


CANARY = _route(canary_release="rel_canary", canary_model=FT.model, canary_share=0.25)


def test_workload_answers_with_its_live_release():
    target = _tables(_route()).resolve(A, "shop", "u")
    assert target is not None
    assert (target.served.model, target.release_id, target.arm) == ("base", "rel_live", "live")
    assert target.fallback is None


def test_canary_gets_its_share_and_falls_back_to_live():
    targets = [_tables(CANARY).resolve(A, "shop", f"user-{n}") for n in range(4000)]
    canary = [target for target in targets if target and target.arm == "canary"]
    assert 0.22 < len(canary) / len(targets) < 0.28
    assert {target.served.model for target in canary} == {FT.model}
    assert {target.release_id for target in canary} == {"rel_canary"}
    assert {target.fallback.model for target in canary if target.fallback} == {"base"}


def test_unit_stays_on_its_side_and_only_moves_into_the_canary():
    wider = _tables(_route(canary_release="rel_canary", canary_model=FT.model, canary_share=0.5))
    for number in range(500):
        narrow = _tables(CANARY).resolve(A, "shop", f"user-{number}")
        assert narrow == _tables(CANARY).resolve(A, "shop", f"user-{number}")
        if narrow and narrow.arm == "canary":
            wide = wider.resolve(A, "shop", f"user-{number}")
            assert wide is not None
            assert wide.arm == "canary"


def test_policy_names_the_fallback_of_both_arms():
    tables = _tables(_route(live_model=FT.model, fallback_model="base"))
    target = tables.resolve(A, "shop", "u")
    assert target is not None
    assert target.fallback == Served(A, "base", "base")


def test_fallback_to_itself_is_none():
    target = _tables(_route(fallback_model="base")).resolve(A, "shop", "u")
    assert target is not None
    assert target.fallback is None


def test_canary_that_is_not_known_yet_leaves_traffic_with_live():
    route = _route(canary_release="rel_c", canary_model="ft:base:a:new:2", canary_share=1.0)
    target = _tables(route).resolve(A, "shop", "u")
    assert target is not None
    assert (target.arm, target.release_id) == ("live", "rel_live")


@pytest.mark.parametrize("name", [FT.model, "base"])
def test_model_that_no_workload_claims_is_pinned(name):
    target = _tables(CANARY).resolve(A, name, "u")
    assert target is not None
    assert (target.served.model, target.arm, target.workload_id) == (name, "none", None)


def test_alias_claims_the_id_of_a_model():
    tables = Tables({(A, FT.model): _route()}, {(A, FT.model): FT}, lambda name: name == "base")
    target = tables.resolve(A, FT.model, "u")
    assert target is not None
    assert target.served.model == "base"


def test_names_of_another_project_do_not_exist():
    tables = _tables(CANARY)
    assert tables.resolve(Project("b"), "shop", "u") is None
    assert tables.resolve(Project("b"), FT.model, "u") is None


def test_unit_is_the_end_user_where_known():
    assert choose_unit("safe", "user", "header", "req") == "safe"
    assert choose_unit(None, "user", "header", "req") == "user"
    assert choose_unit(None, None, "header", "req") == "header"
    assert choose_unit(None, "", None, "req") == "req"
