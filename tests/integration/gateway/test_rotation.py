"""Secrets replaced under a running gateway, by the commands of SECURITY.md."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text
from structlog.testing import capture_logs

from services.gateway import repository
from shared.context import Context
from shared.errors import Invalid
from shared.ids import Project, uuid7
from shared.keys import mac_of
from shared.process import process_secret
from shared.receipts import Receipt, read_receipt
from shared.rotation import Values

DOCUMENT = Path(__file__).parents[3] / "SECURITY.md"
A = Context.root(Project("a"), "test")
FIRST = {"api_key_pepper": "1" * 64, "receipt_key": "2" * 64}
# A look a second, a round of renewing a second, a snapshot every 100 ms.
SOON_SECONDS = 4.0


@pytest.fixture
def folder(core, monkeypatch):
    """Secrets in files, as `make secrets` writes them."""
    core.secrets_dir.mkdir()
    for name, value in FIRST.items():
        monkeypatch.delenv(f"PERPETUNE_SECRET_{name.upper()}")
        (core.secrets_dir / name).write_text(value)
        (core.secrets_dir / name).chmod(0o600)
    process_secret.cache_clear()
    return core.secrets_dir


@pytest.fixture
def client(folder, client):
    return client


@pytest.fixture
def app(folder, app):
    return app


@pytest.fixture
def commands():
    """The two blocks of the chapter: begin and end."""
    chapter = re.search(r"\n## Rotating secrets\n(.*?)\n## ", DOCUMENT.read_text(), re.DOTALL)
    assert chapter
    begin, end = re.findall(r"```sh\n(.*?)```", chapter[1], re.DOTALL)
    return begin, end


@pytest.fixture
def rotate(commands, folder, tmp_path):
    """Runs a block for a secret, as a person would in the folder above `secrets`."""

    def rotate(name, block):
        script = commands[block].replace("secrets/receipt_key", f"secrets/{name}")
        assert f"secrets/{name}" in script
        subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, check=True)
        return (folder / name).read_text().split()

    return rotate


@pytest.fixture
def make_old_key(make_key):
    """Headers of a key stored under a pepper, as 0.1.0 stored it: without a mark."""
    return lambda pepper: make_key(pepper=pepper)


def _stored(units, headers):
    with units.open(A) as uow:
        return uow.session.execute(
            text("SELECT mac, pepper FROM gateway.keys WHERE key_id = :id"),
            {"id": headers["authorization"].split("_")[1]},
        ).one()


def _await(is_true):
    deadline = time.monotonic() + SOON_SECONDS
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _status(client, headers):
    return client.get("/api/v1/keys", headers=headers).status_code


def _admitted(client, headers):
    """Fails at the first refusal."""
    assert _status(client, headers) == 200
    return True


def _outdated(client):
    families = text_string_to_metric_families(client.get("/metrics").text)
    return next(f.samples[0].value for f in families if f.name == "gateway_keys_outdated")


def test_a_rotated_pepper_keeps_used_keys_and_ends_unused_ones_with_the_overlap(
    client, make_old_key, rotate, units
):
    used, unused, revoked = (make_old_key(FIRST["api_key_pepper"]) for _ in range(3))
    assert _status(client, used) == _status(client, unused) == 200
    with capture_logs() as lines:
        new, old = rotate("api_key_pepper", 0)
        assert old == FIRST["api_key_pepper"]
        assert len(new) == 64
        key = used["authorization"].removeprefix("Bearer ")
        # Never refused: neither before the file is seen, nor while the key moves, nor after.
        _await(lambda: _admitted(client, used) and _stored(units, used).mac == mac_of(key, new))
        assert _status(client, used) == 200
    assert client.delete(
        f"/api/v1/keys/{revoked['authorization'].split('_')[1]}", headers=used
    ).is_success
    _await(lambda: _outdated(client) == 1)
    assert rotate("api_key_pepper", 1) == [new]
    after = Values.of(new)
    # The one that is tried has to be left alone until the end is seen: trying it is using it.
    _await(lambda: _admitted(client, used) and process_secret("api_key_pepper").values == after)
    assert (_status(client, unused), _status(client, used)) == (401, 200)
    assert _status(client, revoked) == 401
    made = client.post("/api/v1/keys", headers=used, json={"name": "x", "scopes": ["keys:write"]})
    assert _status(client, {"authorization": f"Bearer {made.json()['key']}"}) == 200
    shown = str(lines)
    assert "secret_changed" in shown
    assert not [secret for secret in (new, old, key) if secret in shown]


def test_a_key_of_0_1_0_is_marked_when_it_is_used_and_leaves_no_entry(
    client, make_old_key, rotate, units
):
    headers = make_old_key(FIRST["api_key_pepper"])
    _await(lambda: _outdated(client) == 1)
    assert _status(client, headers) == 200
    _await(lambda: _outdated(client) == 0)
    before = _stored(units, headers)
    rotate("api_key_pepper", 0)
    _await(lambda: _status(client, headers) == 200 and _stored(units, headers).mac != before.mac)
    assert _stored(units, headers).pepper != before.pepper
    entries = client.get("/api/v1/audit?action=key.", headers=headers).json()["data"]
    assert [entry["action"] for entry in entries] == ["key.renewed"]


def test_renewing_brings_no_revoked_key_back_and_overwrites_nothing_newer(
    app, client, make_old_key, units
):
    headers = make_old_key(FIRST["api_key_pepper"])
    key_id = headers["authorization"].split("_")[1]
    with units.open(A) as uow:
        old = _stored(units, headers).mac
        change = {"old_mac": old, "mac": "new", "pepper": "p"}
        assert repository.renew_key(uow.session, key_id, **change)
        assert not repository.renew_key(uow.session, key_id, **change)
        assert repository.revoke_key(uow.session, key_id)
        change = {"old_mac": "new", "mac": "newer", "pepper": "q"}
        assert not repository.renew_key(uow.session, key_id, **change)


def test_receipts_of_the_old_key_count_until_the_overlap_ends(client, make_old_key, rotate):
    headers = make_old_key(FIRST["api_key_pepper"])

    def feedback(key):
        receipt = Receipt(uuid7(), Project("a"), None, None, "none").sign(key.encode())
        body = {"inference_id": receipt, "success": True}
        return client.post("/api/v1/feedback", headers=headers, json=body)

    assert feedback(FIRST["receipt_key"]).is_success
    new, old = rotate("receipt_key", 0)
    time.sleep(0.3)
    # A door that saw the file first signs with the new key: nobody has to wait for a second.
    assert feedback(new).is_success
    assert feedback(old).is_success
    rotate("receipt_key", 1)
    _await(lambda: feedback(old).status_code == 400)
    assert feedback(old).json()["error"]["code"] == "unknown_inference"
    assert feedback(new).is_success


def test_the_process_signs_with_the_first_line_only(client, rotate):
    new, _ = rotate("receipt_key", 0)
    sign = client.app.state.inference.core._recorder.sign
    target = type("Target", (), {"workload_id": None, "release_id": None, "arm": "none"})
    _await(lambda: _is_of(sign(Project("a"), uuid7(), target), new))


def _is_of(receipt, key):
    try:
        return read_receipt(receipt, Project("a"), [key.encode()]) is not None
    except Invalid:
        return False


def test_a_secret_stays_readable_by_its_owner_only_and_no_copy_is_left(folder, rotate):
    for name in FIRST:
        rotate(name, 0)
        assert {oct(file.stat().st_mode & 0o777) for file in folder.iterdir()} == {"0o600"}
        rotate(name, 1)
    assert {file.name for file in folder.iterdir()} == set(FIRST)
