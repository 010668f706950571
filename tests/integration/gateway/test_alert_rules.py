"""Alert rules and the metrics they name, as a running gateway exports them."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from infra.database import maintenance
from shared.context import Context
from shared.contracts.workloads import WorkloadCreated
from shared.ids import Project, uuid7
from shared.process import spine_units
from shared.spine import deliveries, leases
from shared.testing.upstream import refuse

FILE = Path(__file__).parents[3] / "infra" / "prometheus" / "alerts.yml"
BASE = "smollm2-135m-instruct"
A = Context.root(Project("a"), "test")
# Functions, operators and words of PromQL that the rules use.
WORDS = {"absent", "by", "delta", "increase", "max", "min", "or", "rate", "sum"}


def _rules():
    groups = yaml.safe_load(FILE.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _named(expression):
    """Metrics and labels that an expression names."""
    labels = set()
    for matchers in re.findall(r"\{([^}]*)\}", expression):
        labels |= set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
    for grouping in re.findall(r"\bby \(([^)]*)\)", expression):
        labels |= set(re.findall(r"\w+", grouping))
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\bby \([^)]*\)", " ", expression)
    metrics = set(re.findall(r"\b[a-z_]\w*\b", bare)) - WORDS
    return metrics, labels


def _scraped(client):
    """Samples by name: a list of (labels, value)."""
    found = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def _value(samples, name, **labels):
    return {tuple(sorted(known.items())): value for known, value in samples[name]}[
        tuple(sorted(labels.items()))
    ]


@pytest.fixture
def leased(units):
    """A job under training."""
    with units.open(A) as uow:
        leases.offer(uow, "finetuning.job", "ftjob-1")


@pytest.fixture
def ask(client, make_key):
    """Ask the base for an answer; the status."""
    headers = make_key()
    body = {"model": BASE, "messages": [{"role": "user", "content": "hi"}]}
    return lambda: client.post("/v1/chat/completions", json=body, headers=headers).status_code


def test_every_rule_names_what_is_exported(client, leased, ask):
    assert ask() == 200
    samples = _scraped(client)
    for rule in _rules():
        metrics, labels = _named(rule["expr"])
        assert metrics, rule["alert"]
        for metric in metrics:
            assert metric in samples, f"{rule['alert']}: nobody exports {metric}"
            known = set(samples[metric][0][0])
            assert labels <= known, f"{rule['alert']}: {metric} has no label {labels - known}"


def test_a_metric_that_nobody_exports_would_be_noticed(client):
    metrics, labels = _named(
        'max by (queue) (delivery_lost{kind="x"}) > 1 or rate(a_total[5m]) > 2'
    )
    assert (metrics, labels) == ({"delivery_lost", "a_total"}, {"queue", "kind"})
    assert not metrics & set(_scraped(client))


def test_every_rule_says_what_is_wrong_how_urgent_it_is_and_what_to_do():
    rules = _rules()
    names = [rule["alert"] for rule in rules]
    assert len(set(names)) == len(names) > 10
    for rule in rules:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}, rule["alert"]
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert set(rule["annotations"]) == {"summary", "action"}
        assert all(len(words) > 20 for words in rule["annotations"].values()), rule["alert"]
        assert rule["expr"].count("(") == rule["expr"].count(")")
        # A label in the text has to survive the aggregation.
        shown = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        assert shown <= _named(rule["expr"])[1], rule["alert"]


def test_every_gauge_of_the_spine_is_watched_or_explains_one_that_is():
    watched = set().union(*(_named(rule["expr"])[0] for rule in _rules()))
    for metric in (
        "delivery_oldest_due_seconds",
        "delivery_due",
        "delivery_oldest_retried_seconds",
        "delivery_dead_letters",
        "spine_leases_expired",
        "spine_lease_claims",
        "spine_lease_expiries_total",
        "spine_dead_tuples",
        "inference_breaker_open",
        "inference_spool_waiting_bytes",
        "inference_spool_waiting_seconds",
        "inference_records_dropped_total",
    ):
        assert metric in watched


def test_queues_show_depth_age_failures_and_dead_letters(client, units):
    with units.open(A) as uow:
        for number in range(3):
            uow.emit(WorkloadCreated(workload_id=f"wl_{number}", name="x", base_model="m"))
        ids = uow.session.execute(
            text("SELECT CAST(id AS text) FROM spine.deliveries ORDER BY seq")
        )
        due, failed, dead = ids.scalars()
    with units.open(A) as uow:
        deliveries.defer(uow.session, failed, 3600, "not yet")
        deliveries.bury(uow.session, dead, "never", attempts=1)
    with spine_units().open(A) as uow:
        uow.session.execute(
            text("""
                UPDATE spine.deliveries SET due_at = due_at - make_interval(secs => CASE
                    WHEN id = CAST(:due AS uuid) THEN 100 ELSE 0 END),
                    created_at = created_at - interval '200 s'
            """),
            {"due": due},
        )
        uow.session.execute(
            text("""
                INSERT INTO spine.dead_letters
                    (id, project, queue, task, envelope, reason, starts, created_at)
                SELECT CAST(:id AS uuid), project, 'inference.door.' || project, task, envelope,
                       reason, starts, created_at FROM spine.dead_letters
            """),
            {"id": uuid7()},
        )
    samples = _scraped(client)
    assert _value(samples, "delivery_unfinished", queue="releases") == 2
    assert _value(samples, "delivery_due", queue="releases") == 1
    assert 100 <= _value(samples, "delivery_oldest_due_seconds", queue="releases") < 160
    assert 200 <= _value(samples, "delivery_oldest_retried_seconds", queue="releases") < 260
    assert _value(samples, "delivery_dead_letters", queue="releases") == 1
    assert _value(samples, "delivery_dead_letters", queue="inference.door") == 1
    assert _value(samples, "delivery_oldest_due_seconds", queue="drift") == 0
    assert "project" not in {label for known in samples.values() for label in known[0][0]}


def test_a_lease_shows_that_it_expired_and_how_often_it_was_claimed(client, leased, units):
    spine = spine_units()
    for owner in ("one", "two"):
        with spine.open(A) as uow:
            leases.claim(uow.session, "finetuning.job", owner, seconds=0.01)
        time.sleep(0.05)
    samples = _scraped(client)
    kind = {"kind": "finetuning.job"}
    assert _value(samples, "spine_leases", **kind) == 1
    assert _value(samples, "spine_leases_expired", **kind) == 1
    assert _value(samples, "spine_lease_claims", **kind) == 2
    assert _value(samples, "spine_lease_expiries_total", **kind) == 1
    with units.open(A) as uow:
        leases.withdraw(uow, "finetuning.job", "ftjob-1")
    samples = _scraped(client)
    assert _value(samples, "spine_leases", **kind) == 0
    assert _value(samples, "spine_lease_expiries_total", **kind) == 1


def test_a_model_that_is_left_alone_is_told(client, ask, upstream):
    assert ask() == 200
    assert _value(_scraped(client), "inference_breaker_open", model=BASE) == 0
    upstream.always(refuse(500))
    assert [ask(), ask()] == [503, 503]
    samples = _scraped(client)
    assert _value(samples, "inference_breaker_open", model=BASE) == 1
    assert _value(samples, "inference_calls_total", model=BASE) == 6
    assert _value(samples, "inference_repetitions_total", model=BASE) == 3
    assert len(upstream.calls("complete")) == 6


def test_dead_rows_of_the_spine_are_counted(client, units):
    with units.open(A) as uow:
        for number in range(50):
            uow.emit(WorkloadCreated(workload_id=f"wl_{number}", name="x", base_model="m"))
    with units.open(A) as uow:
        uow.session.execute(text("SELECT spine.take(id) FROM spine.deliveries"))
    deadline = time.monotonic() + 15
    while _value(_scraped(client), "spine_dead_tuples", table="deliveries") < 50:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_database_that_is_away_is_told_and_leaves_the_figures_as_they_were(client, database):
    assert _value(_scraped(client), "gateway_database_up") == 1
    with maintenance(database.owner) as owner:
        name = database.owner.rpartition("/")[2].partition("?")[0]
        owner.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
        )
        samples = _scraped(client)
        owner.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    assert _value(samples, "gateway_database_up") == 0
    assert _value(samples, "delivery_due", queue="releases") == 0
