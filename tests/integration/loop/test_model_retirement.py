"""Retirement of models on a real database and spine: dates, steps, events, and who needs what."""

from __future__ import annotations

import threading
from datetime import date, timedelta

import openai
import pytest
from loop_rooms import BASE
from sqlalchemy.exc import DBAPIError

from services.delivery.service.schedules import fire_due
from services.releases.service.retirement import (
    MAX_RETIREMENTS,
    announce_due,
    set_shutdown_date,
)
from shared.contracts.releases import AnnounceRetirements
from shared.db import UnitOfWork

FOREIGN = "ft:gpt-4o-mini:acme::abc"
ROUTE = "/api/v1/retirements"


@pytest.fixture
def today(loop) -> date:
    return loop.value("SELECT CAST(now() AS date)")


def put(client, model: str, day: date):
    answer = client.put(f"{ROUTE}/{model}", json={"shutdown_date": str(day)})
    assert answer.status_code == 200, answer.text
    return answer.json()


def told(loop) -> list[dict]:
    rows = loop.rows(
        "SELECT envelope FROM spine.events WHERE type = 'model.retirement_announced.v1'"
        " ORDER BY xid, seq"
    )
    return [row.envelope["data"] for row in rows]


def steps(loop) -> list[tuple[str, int]]:
    return [(event["model"], event["step_days"]) for event in told(loop)]


def announce(loop, days_later: int = 0) -> None:
    """As the task does it, on a later day."""
    with loop.units.open(loop.context) as uow:
        later = uow.now + timedelta(days=days_later)
        announce_due(UnitOfWork(uow.session, uow.context, later))


def test_each_step_is_announced_once_as_days_go_by(loop, client, workload, today):
    day = today + timedelta(days=100)
    put(client, BASE, day)
    assert told(loop) == []
    for days_later in (0, 9, 10, 10, 40, 70, 70, 92, 93, 99, 101, 150):
        announce(loop, days_later)
    assert [(event["step_days"], event["days_left"]) for event in told(loop)] == [
        (90, 90),
        (30, 30),
        (7, 7),
    ]
    assert loop.actions().count("retirement.announced") == 3
    assert loop.schedules("retirements.announce.v1") == set()


def test_a_schedule_of_the_spine_announces_what_has_become_due(loop, client, workload, today):
    put(client, BASE, today + timedelta(days=91))
    assert loop.schedules("retirements.announce.v1") == {"retirements"}
    loop.execute("UPDATE releases.retirements SET shutdown_date = shutdown_date - 1")
    loop.execute("UPDATE spine.schedules SET due_at = now()")
    fire_due(loop.spine)
    assert "releases.announce_retirements" in loop.deliver()
    assert told(loop) == [
        {
            "model": BASE,
            "shutdown_date": str(today + timedelta(days=90)),
            "days_left": 90,
            "step_days": 90,
            "workload_count": 1,
            "workloads": [{"workload_id": workload, "name": "extractor"}],
        }
    ]
    assert loop.schedules("retirements.announce.v1") == {"retirements"}


def test_a_date_set_late_is_announced_at_once_and_by_its_nearest_step(loop, client, today):
    body = put(client, FOREIGN, today + timedelta(days=20))
    assert (body["days_left"], body["announced"]) == (20, [30])
    put(client, FOREIGN, today + timedelta(days=20))
    assert steps(loop) == [(FOREIGN, 30)]
    assert loop.actions() == ["retirement.set", "retirement.announced"]


def test_a_changed_date_starts_anew_and_a_repeated_one_does_not(loop, client, today):
    for days in (20, 25, 20, 200, 5):
        put(client, FOREIGN, today + timedelta(days=days))
    client.delete(f"{ROUTE}/{FOREIGN}")
    put(client, FOREIGN, today + timedelta(days=5))
    assert [(event["days_left"], event["step_days"]) for event in told(loop)] == [
        (20, 30),
        (25, 30),
        (5, 7),
    ]


def test_many_at_once_announce_once(loop, client, today):
    put(client, FOREIGN, today + timedelta(days=91))
    runners = [threading.Thread(target=announce, args=(loop, 1)) for _ in range(6)]
    for runner in runners:
        runner.start()
    for runner in runners:
        runner.join()
    assert steps(loop) == [(FOREIGN, 90)]


def test_a_date_set_while_the_last_step_is_told_keeps_its_schedule(loop, client, today):
    """Guarantee: whoever ends the schedule has seen every date there is."""
    put(client, FOREIGN, today + timedelta(days=8))
    with loop.units.open(loop.context) as uow:
        set_shutdown_date(uow, "another", today + timedelta(days=300))
        runner = threading.Thread(target=announce, args=(loop, 1))
        runner.start()
        runner.join(0.3)
        assert runner.is_alive()
    runner.join()
    assert steps(loop) == [(FOREIGN, 30), (FOREIGN, 7)]
    assert loop.schedules("retirements.announce.v1") == {"retirements"}


def test_workloads_that_need_a_model_are_named(loop, client, workload, today):
    client.put("/api/v1/workloads/extractor/aliases", json={"aliases": [FOREIGN]})
    tuned = loop.add_model("own")
    for model in (FOREIGN, BASE, tuned, "nobody's"):
        put(client, model, today + timedelta(days=10))
    named = {event["model"]: [each["name"] for each in event["workloads"]] for event in told(loop)}
    assert named == {FOREIGN: ["extractor"], BASE: ["extractor"], tuned: [], "nobody's": []}
    loop.execute("UPDATE releases.releases SET model = :tuned", tuned=tuned)
    listed = {row["model"]: row["workloads"] for row in client.get(ROUTE).json()["data"]}
    assert listed[tuned] == listed[BASE] == ["extractor"]


def test_a_tuned_model_ends_with_its_base(loop, client, workload, today):
    tuned = loop.add_model("own")
    put(client, tuned, today + timedelta(days=60))
    put(client, BASE, today + timedelta(days=40))
    first, second = client.get(ROUTE).json()["data"]
    assert [first["model"], second["model"]] == sorted([tuned, BASE])
    own = next(each for each in (first, second) if each["model"] == tuned)
    assert own["shutdown_date"] == str(today + timedelta(days=40))
    assert own["set_date"] == str(today + timedelta(days=60))
    announce(loop, 33)
    assert steps(loop) == [(tuned, 90), (BASE, 90), (BASE, 7)]
    client.delete(f"{ROUTE}/{BASE}")
    announce(loop, 33)
    assert steps(loop)[3:] == [(tuned, 30)]


def test_models_carry_the_day_on_which_they_end(loop, client, workload, today):
    client.put("/api/v1/workloads/extractor/aliases", json={"aliases": [FOREIGN]})
    tuned = loop.add_model("own")
    soon, late = today + timedelta(days=5), today + timedelta(days=400)
    put(client, BASE, late)
    put(client, FOREIGN, soon)
    ends = {each["id"]: each["shutdown_date"] for each in client.get("/v1/models").json()["data"]}
    assert ends == {BASE: str(late), tuned: str(late), "extractor": str(late), FOREIGN: str(soon)}
    one = client.get(f"/v1/models/{tuned}").json()
    assert openai.types.Model.model_validate(one, strict=True).shutdown_date == str(late)
    client.delete(f"{ROUTE}/{BASE}")
    assert client.get(f"/v1/models/{tuned}").json()["shutdown_date"] is None


def test_lists_can_be_of_what_ends_soon(loop, client, today):
    for model, days in (("late", 91), ("soon", 90), ("now", 0)):
        put(client, model, today + timedelta(days=days))
    listed = client.get(ROUTE, params={"within_days": 90}).json()["data"]
    assert [each["model"] for each in listed] == ["now", "soon"]


@pytest.mark.parametrize("day", ["2020-01-01", "soon", "2027-02-30", 1_800_000_000.5, None])
def test_what_is_no_day_to_come_is_refused(client, day):
    answer = client.put(f"{ROUTE}/m", json={"shutdown_date": day})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "shutdown_date"


def test_a_project_has_a_bounded_number_of_them(loop, client, today):
    loop.execute(
        "INSERT INTO releases.retirements (project, model, shutdown_date)"
        " SELECT :project, 'm' || n, now() + interval '1 year' FROM generate_series(1, :n) n",
        project=loop.context.project,
        n=MAX_RETIREMENTS,
    )
    refused = client.put(f"{ROUTE}/one-more", json={"shutdown_date": str(today)})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "too_many_retirements")
    assert client.put(f"{ROUTE}/m1", json={"shutdown_date": str(today)}).status_code == 200


def test_other_projects_neither_see_nor_remove_it(client, other_client, today):
    put(client, FOREIGN, today + timedelta(days=10))
    assert other_client.get(ROUTE).json()["data"] == []
    assert other_client.delete(f"{ROUTE}/{FOREIGN}").status_code == 404
    assert len(client.get(ROUTE).json()["data"]) == 1


def test_a_deleted_model_is_not_announced(loop, client, workload, today):
    tuned = loop.add_model("own")
    put(client, tuned, today + timedelta(days=300))
    assert client.delete(f"/v1/models/{tuned}").status_code == 200
    announce(loop, 299)
    assert told(loop) == []
    assert client.get(ROUTE).json()["data"] == []


@pytest.mark.parametrize("statement", ["DELETE FROM", "UPDATE"])
def test_what_was_announced_stays_announced(loop, client, today, statement):
    put(client, FOREIGN, today)
    setting = " SET step_days = 1" if statement == "UPDATE" else ""
    with pytest.raises(DBAPIError):
        loop.execute(f"{statement} releases.retirement_announcements{setting}")


def test_nothing_left_to_announce_ends_the_schedule(loop, client, today):
    put(client, FOREIGN, today + timedelta(days=300))
    client.delete(f"{ROUTE}/{FOREIGN}")
    assert loop.schedules("retirements.announce.v1") == set()
    loop.say(AnnounceRetirements())
    assert told(loop) == []
    assert client.delete(f"{ROUTE}/{FOREIGN}").status_code == 404
