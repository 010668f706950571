"""API keys over HTTP, on a real database."""

from __future__ import annotations

import stat
import time

import pytest
from sqlalchemy import text

from services.gateway.first_key import DEFAULT_PROJECT, ensure_first_key
from shared.context import Context
from shared.errors import Invalid
from shared.ids import Project


def test_a_new_key_works_at_once_and_is_shown_once(client, make_key):
    owner = make_key("keys:write", "audit:read")
    made = client.post(
        "/api/v1/keys", headers=owner, json={"name": "reader", "scopes": ["audit:read"]}
    )
    assert made.status_code == 200
    key = made.json()["key"]
    assert client.get("/api/v1/audit", headers={"authorization": f"Bearer {key}"}).is_success
    listed = client.get("/api/v1/keys", headers=owner).json()
    assert key not in str(listed)
    assert {"test", "reader"} == {row["name"] for row in listed["data"]}
    assert made.json()["expires_at"] - made.json()["created_at"] == 90 * 86_400


def test_nobody_grants_what_he_does_not_have(client, make_key):
    answer = client.post(
        "/api/v1/keys",
        headers=make_key("keys:write"),
        json={"name": "x", "scopes": ["keys:write", "audit:read"]},
    )
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "scope_not_held"
    assert "audit:read" in answer.json()["error"]["message"]


def test_a_revoked_key_is_refused_within_a_snapshot(client, make_key):
    owner, other = make_key(), make_key("audit:read")
    assert client.get("/api/v1/audit", headers=other).is_success
    key_id = other["authorization"].split("_")[1]
    first = client.delete(f"/api/v1/keys/{key_id}", headers=owner)
    again = client.delete(f"/api/v1/keys/{key_id}", headers=owner)
    assert first.json() == again.json()
    assert first.json()["revoked_at"] is not None
    deadline = time.monotonic() + 2
    while client.get("/api/v1/audit", headers=other).status_code != 401:
        assert time.monotonic() < deadline
    actions = [row["action"] for row in client.get("/api/v1/audit", headers=owner).json()["data"]]
    assert actions == ["key.revoked"]


def test_keys_of_another_project_do_not_exist(client, make_key):
    mine, theirs = make_key(project="a"), make_key(project="b")
    key_id = theirs["authorization"].split("_")[1]
    assert client.delete(f"/api/v1/keys/{key_id}", headers=mine).status_code == 404
    assert client.get("/api/v1/keys", headers=theirs).is_success
    shown = client.get("/api/v1/keys", headers=mine).json()["data"]
    assert key_id not in {row["id"] for row in shown}


def test_an_expired_key_is_refused(client, make_key, units):
    headers = make_key()
    with units.open(Context.root(Project("a"), "test")) as uow:
        uow.session.execute(text("UPDATE gateway.keys SET expires_at = now() - interval '1 s'"))
    # The process may have seen the key before it expired; it looks again every half second.
    deadline = time.monotonic() + 2
    while (answer := client.get("/api/v1/audit", headers=headers)).status_code != 401:
        assert time.monotonic() < deadline
    assert answer.json()["error"]["code"] == "expired_key"


def test_a_page_goes_on_after_the_last_key(client, make_key):
    headers = [make_key() for _ in range(3)]
    first = client.get("/api/v1/keys?limit=2", headers=headers[0]).json()
    rest = client.get(f"/api/v1/keys?limit=2&after={first['last_id']}", headers=headers[0]).json()
    assert (first["has_more"], rest["has_more"]) == (True, False)
    assert len({row["id"] for row in first["data"] + rest["data"]}) == 3
    answer = client.get("/api/v1/keys?after=nothing", headers=headers[0])
    assert answer.json()["error"]["code"] == "unknown_cursor"


def test_the_first_key_is_made_once_and_repaired(client, units, pepper, tmp_path):
    file = tmp_path / "secrets" / "api_key"
    key = ensure_first_key(units, pepper, file)
    assert ensure_first_key(units, pepper, file) == key == file.read_text().strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert client.get("/api/v1/keys", headers={"authorization": f"Bearer {key}"}).is_success
    with units.open(Context.root(DEFAULT_PROJECT, "test")) as uow:
        count = uow.session.execute(text("SELECT count(*) FROM gateway.keys")).scalar_one()
    assert count == 1
    file.write_text("something else")
    with pytest.raises(Invalid, match="holds no API key"):
        ensure_first_key(units, pepper, file)
