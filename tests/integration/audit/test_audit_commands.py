"""The log over HTTP and in the terminal: exported from a gateway, checked as a file."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from sealed_log import KEY, SIGNER, context
from sqlalchemy import text

from services.cli.commands import audit_proofs
from services.cli.connection import Connection
from services.cli.errors import CommandFailed
from services.cli.main import app
from shared.audit.checkpoint import Checkpoint
from shared.audit.commitments import Opening


@pytest.fixture
def connection(gateway, log):
    made = Connection("http://testserver", log.make_key())
    # The same requests, answered in this process by the real routes.
    made.__dict__["_http"] = gateway
    return made


@pytest.fixture
def export(connection, monkeypatch, tmp_path):
    monkeypatch.setattr(audit_proofs, "_PAGE", 4)

    def export():
        file = tmp_path / "log.jsonl"
        audit_proofs.export(SimpleNamespace(obj=connection), file)
        return file

    return export


@pytest.fixture
def perpetune(capsys, monkeypatch):
    """Commands that find neither server nor key."""
    monkeypatch.setenv("PERPETUNE_URL", "http://127.0.0.1:9")

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            app([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return run


def test_an_export_is_the_log_and_verifies_with_key_and_witness(log, export, perpetune):
    log.write(6)
    log.seal()
    log.write(5)
    log.seal()
    log.write(1)
    file = export()
    assert file.read_bytes().splitlines() == log.export()
    code, out, _ = perpetune("audit", "verify", file, "--key", KEY)
    assert (code, "11 entries are as signed" in out, "cut off" in out) == (0, True, True)
    key = file.with_name("log.pub")
    key.write_text(f"{KEY}\n")
    witness = log.witness.path("a")
    code, out, _ = perpetune(
        "audit", "verify", file, "--key", key, "--checkpoint", witness, "--json"
    )
    assert code == 0
    report = json.loads(out)
    assert report["ok"] is True
    assert (report["size"], report["checkpoints"], report["anchors"]) == (11, 2, 2)


def test_a_changed_export_fails_with_exit_code_1_and_the_number(log, export, perpetune):
    log.write(9)
    log.seal()
    file = export()
    file.write_bytes(file.read_bytes().replace(b'"thing_4"', b'"thing_5"', 1))
    code, out, _ = perpetune("audit", "verify", file, "--key", KEY)
    assert (code, "entry 4" in out) == (1, True)
    code, out, _ = perpetune("audit", "verify", file, "--key", KEY, "--json")
    assert (code, json.loads(out)["fault"]["first"]) == (1, 4)


def test_one_entry_is_proved_and_the_proof_verified(log, export, perpetune, tmp_path):
    log.write(9)
    log.seal()
    code, out, _ = perpetune("audit", "prove", export(), 4)
    assert code == 0
    proof = tmp_path / "entry.tlog-proof"
    proof.write_text(out)
    code, out, _ = perpetune("audit", "verify", proof, "--key", KEY, "--json")
    found = json.loads(out)
    assert (code, found["ok"], found["seq"], found["size"]) == (0, True, 4, 9)
    assert found["entry"]["subject"] == "thing_4"
    proof.write_text(proof.read_text().replace("index 4", "index 5"))
    code, out, _ = perpetune("audit", "verify", proof, "--key", KEY, "--json")
    assert (code, json.loads(out)["seq"]) == (1, 5)
    assert perpetune("audit", "verify", proof, "--key", KEY)[0] == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--key", "nonsense"), "no public key"),
        (("--key", KEY, "--checkpoint", "{other}"), "holds no checkpoint of perpetune.test/a"),
        (("--key", KEY, "--checkpoint", "{forged}"), "signature"),
        (("--key", KEY, "--checkpoint", "nowhere"), "nowhere cannot be read"),
    ],
)
def test_what_cannot_be_compared_is_an_error(log, export, perpetune, tmp_path, arguments, says):
    log.write(2)
    log.seal()
    other, forged = tmp_path / "other", tmp_path / "forged"
    other.write_text(SIGNER.signed(Checkpoint("perpetune.test/b", 1, bytes(32)).text))
    note = SIGNER.signed(Checkpoint("perpetune.test/a", 1, bytes(32)).text)
    forged.write_text(note.replace("\n1\n", "\n2\n"))
    named = [str(one).format(other=other, forged=forged) for one in arguments]
    code, _, err = perpetune("audit", "verify", export(), *named)
    assert (code, says in err) == (1, True), err


def test_an_unsealed_log_says_so(connection, log, tmp_path):
    log.write(1)
    with pytest.raises(CommandFailed, match="sealed yet"):
        audit_proofs.export(SimpleNamespace(obj=connection), tmp_path / "log.jsonl")


def test_the_key_can_be_asked_for_on_the_first_day(connection, log, capsys):
    log.write(1)
    log.seal()
    audit_proofs.key(SimpleNamespace(obj=connection))
    assert capsys.readouterr().out.splitlines()[-1] == str(KEY)


def test_personal_data_is_shown_until_it_is_erased_and_the_log_stays_whole(connection, log):
    with log.app.open(context("a")) as uow:
        uow.audit("thing.made", "x", personal={"name": "Anna Example"})
    log.seal()
    [entry] = connection.get("audit")["data"]
    assert entry["personal"] == {"name": "Anna Example"}
    assert "Anna" not in b"".join(log.export()).decode()
    with log.app.open(context("a")) as uow:
        [(salt, data)] = uow.session.execute(
            text("SELECT salt, data FROM spine.audit_disclosures")
        ).all()
    assert Opening(salt, data).commitment == entry["commitments"]["name"]
    erased = connection.delete("audit", entry["id"], "personal")
    assert erased["names"] == ["name"]
    assert connection.delete("audit", entry["id"], "personal")["names"] == []
    log.seal()
    newest, oldest = connection.get("audit")["data"]
    assert oldest == {**entry, "personal": {}}
    assert (newest["action"], newest["facts"]) == ("audit_entry.erased", {"names": ["name"]})
    assert log.verify().fault is None
    with pytest.raises(CommandFailed, match="no audit entry"):
        connection.delete("audit", "unknown", "personal")


def test_entries_are_listed_in_both_orders_page_by_page(connection, log):
    log.write(5)
    wanted = [f"thing_{number}" for number in range(5)]
    forwards = list(connection.pages("audit", order="asc", limit=2))
    backwards = list(connection.pages("audit", limit=2))
    assert [entry["subject"] for entry in forwards] == wanted
    assert [entry["subject"] for entry in backwards] == wanted[::-1]
    with pytest.raises(CommandFailed, match="no audit entry nonsense"):
        connection.get("audit", after="nonsense")
