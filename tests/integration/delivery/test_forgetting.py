"""How many kept answers one round forgets."""

from __future__ import annotations

import psycopg
from sqlalchemy import make_url

from services.delivery.service import forgetting


def test_a_backlog_of_old_answers_is_forgotten_in_one_bounded_round(bench, database, monkeypatch):
    """Guarantee: what a burst left behind does not grow, and no round is without end."""
    monkeypatch.setattr(forgetting, "_BATCH", 2)
    monkeypatch.setattr(forgetting, "_BATCHES", 3)
    _keep(database, "old", 9, "25 h")
    _keep(database, "new", 1, "1 h")
    assert [forgetting.forget_answers(bench.spine, 24) for _ in range(3)] == [6, 3, 0]
    assert bench.rows("SELECT key FROM spine.idempotency_keys") == [("new0",)]


def _keep(database, name: str, count: int, age: str) -> None:
    """Answers to *count* requests, made *age* ago."""
    owner = make_url(database.owner).set(drivername="postgresql").render_as_string(False)
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO spine.idempotency_keys (project, key, digest, status, body, created_at) "
            "SELECT 'a', %s || n, '', 200, '', now() - %s::interval "
            "FROM generate_series(0, %s) AS n",
            [name, age, count - 1],
        )
