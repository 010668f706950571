"""One effect for each idempotency key, and the same answer to each repetition."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from sqlalchemy import make_url, text

from services.delivery.service.forgetting import forget_answers
from shared.context import Context
from shared.ids import Project
from shared.process import spine_units
from shared.spine import answers

A = Context.root(Project("a"), "test")
WORKLOADS = "/api/v1/workloads"
BODY = {"name": "extractor", "base_model": "smollm2-135m-instruct"}


@pytest.fixture
def headers(make_key):
    return make_key()


@pytest.fixture
def count(units):
    """Rows of a table in project a."""

    def count(table: str) -> int:
        with units.open(A) as uow:
            return int(uow.session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())

    return count


def _keyed(headers, key="one"):
    return {**headers, "idempotency-key": key}


def _code(answer):
    return answer.status_code, answer.json()["error"]["code"]


def test_a_repetition_gets_the_first_answer_byte_for_byte(client, headers, count):
    first = client.post(WORKLOADS, headers=_keyed(headers), json=BODY)
    again = client.post(WORKLOADS, headers=_keyed(headers), json=BODY)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert again.headers["content-type"] == first.headers["content-type"]
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert count("workloads.workloads") == 1
    # The messages of the effect were sent once, too.
    assert count("spine.deliveries") == 1
    assert count("spine.audit_entries") == 1


def test_a_key_belongs_to_one_request(client, headers, count):
    assert client.post(WORKLOADS, headers=_keyed(headers), json=BODY).is_success
    other = client.post(WORKLOADS, headers=_keyed(headers), json={**BODY, "name": "other"})
    assert _code(other) == (400, "idempotency_key_reused")
    assert other.json()["error"]["param"] == "idempotency-key"
    # Another route, and another query, are another request as well.
    route = client.post("/api/v1/subscriptions", headers=_keyed(headers), json=BODY)
    assert _code(route) == (400, "idempotency_key_reused")
    query = client.post(f"{WORKLOADS}?x=1", headers=_keyed(headers), json=BODY)
    assert _code(query) == (400, "idempotency_key_reused")
    assert count("workloads.workloads") == 1


def test_the_same_request_under_two_keys_or_none_means_two_things(client, headers, count):
    body = {"queue": "q", "types": []}
    for number, key in enumerate(("one", "two")):
        made = client.post(
            "/api/v1/subscriptions",
            headers=_keyed(headers, key),
            json={**body, "queue": f"q{number}"},
        )
        assert made.is_success
    name = {"name": "reader", "scopes": ["audit:read"]}
    ids = {client.post("/api/v1/keys", headers=headers, json=name).json()["id"] for _ in range(2)}
    assert len(ids) == 2
    assert count("delivery.subscriptions") == 2


def test_projects_do_not_share_keys(client, headers, make_key):
    theirs = make_key(project="b")
    first = client.post(WORKLOADS, headers=_keyed(headers), json=BODY)
    second = client.post(WORKLOADS, headers=_keyed(theirs), json=BODY)
    assert first.is_success
    assert second.is_success
    assert "idempotent-replayed" not in second.headers
    assert first.json()["id"] != second.json()["id"]


def test_a_request_that_failed_leaves_its_key_free(client, headers, count):
    wrong = {**BODY, "base_model": "no-such-base"}
    for _ in range(2):
        refused = client.post(WORKLOADS, headers=_keyed(headers), json=wrong)
        assert refused.status_code in {400, 404}
        assert "idempotent-replayed" not in refused.headers
    assert count("spine.idempotency_keys") == 0
    assert client.post(WORKLOADS, headers=_keyed(headers), json=BODY).is_success


@pytest.mark.parametrize(
    "key", ["", "k" * 256, "two words", "tab\there", "schl\u00fcssel".encode("latin-1")]
)
def test_a_key_out_of_bounds_is_refused_before_anything_happens(client, headers, count, key):
    answer = client.post(WORKLOADS, headers=_keyed(headers, key), json=BODY)
    assert _code(answer) == (400, "invalid_value")
    assert answer.json()["error"]["param"] == "idempotency-key"
    assert count("workloads.workloads") == 0


def test_a_key_of_the_greatest_length_is_taken(client, headers):
    key = "~" * 255
    assert client.post(WORKLOADS, headers=_keyed(headers, key), json=BODY).is_success
    again = client.post(WORKLOADS, headers=_keyed(headers, key), json=BODY)
    assert again.headers["idempotent-replayed"] == "true"


def test_a_repetition_while_the_first_one_works_is_a_409_that_says_when(
    client, headers, units, count
):
    with units.open(A) as uow:
        answers.claim(uow, "one", "digest of what is being done")
        busy = client.post(WORKLOADS, headers=_keyed(headers), json=BODY)
        others = client.post(WORKLOADS, headers=_keyed(headers, "two"), json=BODY)
    assert _code(busy) == (409, "idempotency_key_in_use")
    assert int(busy.headers["retry-after"]) >= 1
    assert int(busy.headers["retry-after-ms"]) > 0
    assert others.is_success
    # The first one ended without an effect: the repetition is carried out.
    free = client.post(WORKLOADS, headers=_keyed(headers), json={**BODY, "name": "second"})
    assert free.is_success
    assert count("workloads.workloads") == 2


def test_a_crowd_with_one_key_has_one_effect(client, headers, count):
    """Guarantee: however many send one request at once, it is carried out once."""
    start = threading.Barrier(8)

    def send(_number):
        start.wait()
        return client.post(
            "/api/v1/keys",
            headers=_keyed(headers),
            json={"name": "crowd", "scopes": ["audit:read"]},
        )

    with ThreadPoolExecutor(8) as pool:
        sent = list(pool.map(send, range(8)))
    fresh = [a for a in sent if a.is_success and "idempotent-replayed" not in a.headers]
    assert len(fresh) == 1
    assert {answer.status_code for answer in sent} <= {200, 409}
    assert count("gateway.keys WHERE name = 'crowd'") == 1


def test_the_effect_is_undone_when_its_answer_cannot_be_kept(client, headers, database, count):
    """Guarantee: effect and answer are one transaction."""
    owner = make_url(database.owner).set(drivername="postgresql").render_as_string(False)
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute("REVOKE INSERT ON spine.idempotency_keys FROM app")
    assert client.post(WORKLOADS, headers=_keyed(headers), json=BODY).status_code == 500
    assert count("workloads.workloads") == 0
    assert count("spine.deliveries") == 0


def test_a_new_api_key_is_stored_nowhere_and_not_shown_again(client, headers, units):
    body = {"name": "ci", "scopes": ["audit:read"]}
    first = client.post("/api/v1/keys", headers=_keyed(headers), json=body)
    again = client.post("/api/v1/keys", headers=_keyed(headers), json=body)
    secret = first.json()["key"]
    assert again.json() == {**first.json(), "key": None}
    assert again.headers["idempotent-replayed"] == "true"
    with units.open(A) as uow:
        kept = uow.session.execute(text("SELECT body FROM spine.idempotency_keys")).scalar_one()
    assert secret.rpartition("_")[2] not in kept
    assert first.json()["id"] in kept


def test_old_answers_are_forgotten_and_their_keys_mean_something_new(
    client, headers, units, database, count
):
    client.post(WORKLOADS, headers=_keyed(headers, "old"), json=BODY)
    client.post(WORKLOADS, headers=_keyed(headers, "new"), json={**BODY, "name": "second"})
    owner = make_url(database.owner).set(drivername="postgresql").render_as_string(False)
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute(
            "UPDATE spine.idempotency_keys SET created_at = now() - interval '24 h 1 s' "
            "WHERE key = 'old'"
        )
    assert forget_answers(spine_units(), 24) == 1
    assert forget_answers(spine_units(), 24) == 0
    third = client.post(WORKLOADS, headers=_keyed(headers, "old"), json={**BODY, "name": "third"})
    assert third.is_success
    assert client.post(
        WORKLOADS, headers=_keyed(headers, "new"), json={**BODY, "name": "second"}
    ).headers["idempotent-replayed"]
    assert count("workloads.workloads") == 3
