"""Somebody with superuser rights changes the log; the export, the key and the witness tell."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from sealed_log import KEY, SEED, SIGNER

from shared.audit.checkpoint import Checkpoint
from shared.audit.export import checkpoint_line, entry_line, header_line
from shared.audit.note import Signer
from shared.audit.proof import Proof, prove
from shared.audit.tree import hash_leaf, root_of
from shared.audit.verification import verify_export
from shared.errors import Corrupt, Missing

WHERE = (
    "id = (SELECT entry FROM spine.audit_leaves WHERE project = 'a' AND seq = {0}) "
    "AND project = 'a'"
)


@pytest.fixture
def sealed(log):
    log.write_sealed()
    return log


def _fault(report):
    assert report.fault is not None
    return report.fault.first, report.fault.last


@pytest.mark.parametrize(
    ("forgery", "seq"),
    [
        ("UPDATE spine.audit_entries SET reason = 'because' WHERE " + WHERE.format(6), 6),
        (
            "UPDATE spine.audit_entries SET facts = facts || '{\"number\": 7}' WHERE "
            + WHERE.format(3),
            3,
        ),
        (
            "UPDATE spine.audit_entries SET at = at + interval '1 microsecond' WHERE "
            + WHERE.format(10),
            10,
        ),
        ("UPDATE spine.audit_entries SET actor = 'key:other' WHERE " + WHERE.format(0), 0),
        ("DELETE FROM spine.audit_entries WHERE " + WHERE.format(7), 7),
        (
            "UPDATE spine.audit_leaves SET hash = sha256(hash) WHERE project = 'a' AND seq = 4",
            # The leaf contradicts entry and root, so no one can say which entry it stood for.
            0,
        ),
    ],
)
def test_a_changed_row_is_named(sealed, forgery, seq):
    sealed.forge(forgery)
    report = sealed.verify()
    first, last = _fault(report)
    assert first == seq
    assert last in {seq, 4}
    assert report.size <= seq


def test_two_entries_that_changed_places_are_named(sealed):
    sealed.forge(
        "UPDATE spine.audit_leaves AS l SET entry = other.entry FROM spine.audit_leaves AS other "
        "WHERE l.seq IN (6, 8) AND other.seq IN (6, 8) AND other.seq <> l.seq"
    )
    assert _fault(sealed.verify()) == (6, 6)


def test_an_entry_put_in_with_numbers_and_hashes_made_to_fit_is_named(kept_log):
    lines = kept_log.export()
    entries = [json.loads(line)["entry"] for line in lines if b'"entry"' in line]
    forged = {**entries[6], "reason": "put in", "id": "00000000-0000-7000-8000-000000000000"}
    notes = {checkpoint.size: note for checkpoint, note in _notes(lines)}
    made = _export([*entries[:6], forged, *entries[6:]], notes)
    # The next checkpoint behind the forgery covers entries 5 to 8.
    assert _fault(verify_export(made, KEY)) == (5, 8)


def test_an_entry_rewritten_with_its_hash_is_bounded_by_the_checkpoints_around_it(kept_log):
    lines = kept_log.export()
    entries = [json.loads(line)["entry"] for line in lines if b'"entry"' in line]
    entries[10]["reason"] = "rewritten"
    notes = {checkpoint.size: note for checkpoint, note in _notes(lines)}
    report = verify_export(_export(entries, notes), KEY)
    assert _fault(report) == (9, 11)
    assert report.size == 9


def test_a_log_signed_anew_with_another_key_is_refused_from_its_first_forged_checkpoint(kept_log):
    lines = kept_log.export()
    entries = [json.loads(line)["entry"] for line in lines if b'"entry"' in line]
    entries[6]["reason"] = "rewritten"
    leaves = [hash_leaf(_canonical(entry)) for entry in entries]
    forger = Signer(KEY.name, bytes(32))
    notes = {checkpoint.size: note for checkpoint, note in _notes(lines)}
    for size in (9, 12):
        checkpoint = Checkpoint("perpetune.test/a", size, root_of(leaves[:size]))
        notes[size] = forger.signed(checkpoint.text)
    report = verify_export(_export(entries, notes), KEY)
    assert report.fault is not None
    assert "not signed" in report.fault.problem
    assert report.fault.first <= 6 <= report.fault.last
    # With the witness, the oldest signed root that contradicts bounds it.
    assert _fault(verify_export(_export(entries, notes), KEY, kept_log.anchors())) == (5, 8)


def test_a_tail_cut_off_at_a_checkpoint_shows_only_against_the_witness(sealed):
    sealed.forge(
        "DELETE FROM spine.audit_entries WHERE id IN "
        "(SELECT entry FROM spine.audit_leaves WHERE seq >= 9)",
        "DELETE FROM spine.audit_leaves WHERE seq >= 9",
        "DELETE FROM spine.audit_checkpoints WHERE size > 9",
    )
    lines = sealed.export()
    assert verify_export(lines, KEY).fault is None
    assert _fault(sealed.verify()) == (9, 9)


def _flipped(line: bytes, at: int) -> bytes:
    return line[:at] + bytes([line[at] ^ 1]) + line[at + 1 :]


def _retimed(line: bytes) -> bytes:
    value = json.loads(line)
    at = datetime.fromisoformat(value["entry"]["at"]) + timedelta(seconds=1)
    value["entry"]["at"] = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return entry_line(value["seq"], value["leaf"], value["entry"])


@pytest.mark.parametrize(
    ("change", "first"),
    [
        (lambda lines: [*lines[:4], *lines[5:]], 3),
        (lambda lines: [*lines[:5], lines[4], *lines[5:]], 4),
        (lambda lines: [*lines[:4], lines[5], lines[4], *lines[6:]], 3),
        (lambda lines: [*lines[:4], _retimed(lines[4]), *lines[5:]], 3),
        (lambda lines: lines[:-1], 9),
        (lambda lines: lines[:-2], 9),
        (lambda lines: lines[:4], 0),
        (lambda lines: [*lines[:-2], lines[-1]], 11),
        (lambda lines: [*lines, lines[-2]], 12),
        (lambda lines: [lines[0], *lines[7:]], 0),
        (lambda lines: lines[:1], 0),
        (lambda lines: [*lines[:6], lines[-1], *lines[7:]], 5),
        (lambda lines: [*lines[:6], b"{}", *lines[7:]], 0),
        (lambda lines: [*lines[:4], b"garbage", *lines[5:]], 0),
        (lambda lines: [*lines[:4], b'{"entry":garbage', *lines[5:]], 3),
    ],
)
def test_a_changed_file_is_refused_with_the_place(kept_log, change, first):
    report = verify_export(change(kept_log.export()), KEY, kept_log.anchors())
    assert report.fault is not None
    assert report.fault.first == first
    assert report.size <= first


def test_any_flipped_bit_of_an_entry_names_it(kept_log):
    lines = kept_log.export()
    line = lines[4]
    end = line.rindex(b',"leaf":"')
    for at in range(len(b'{"entry":'), end, 3):
        changed = [*lines[:4], _flipped(line, at), *lines[5:]]
        assert _fault(verify_export(changed, KEY)) == (3, 3), at


def test_any_flipped_bit_of_a_stated_hash_or_number_is_noticed(kept_log):
    lines = kept_log.export()
    line = lines[4]
    for at in range(line.rindex(b',"leaf":"'), len(line)):
        report = verify_export([*lines[:4], _flipped(line, at), *lines[5:]], KEY)
        # A letter of the hash in the other case is the same hash.
        assert report.fault is None or report.fault.first <= 3, at
        assert report.fault is not None or line[at : at + 1].isalpha()


def test_a_file_formatted_in_another_way_is_the_same_file(kept_log):
    lines = [json.dumps(json.loads(line), indent=None).encode() for line in kept_log.export()]
    assert verify_export(lines, KEY).fault is None
    backwards = [
        json.dumps(dict(reversed(json.loads(line).items()))).encode() for line in kept_log.export()
    ]
    assert verify_export(backwards, KEY).fault is None


def test_what_is_no_export_is_not_taken_for_an_empty_one():
    for lines in ([], [b"{}"], [b"[1]"], [b'{"format":"other"}']):
        with pytest.raises(Corrupt, match="no export"):
            verify_export(lines, KEY)


def test_a_log_in_which_every_entry_has_a_checkpoint_is_verified_too(log):
    for _ in range(4):
        log.write(1)
        log.seal()
    assert log.verify().checkpoints == 4


def test_an_old_checkpoint_shows_that_the_log_was_only_extended(sealed):
    note = next(note for checkpoint, note in _notes(sealed.export()) if checkpoint.size == 5)
    sealed.write(20)
    sealed.seal()
    anchor = Checkpoint.opened(note, KEY)
    assert verify_export(sealed.export(), KEY, [anchor]).anchors == 1
    forged = Checkpoint(anchor.origin, 5, bytes(32))
    assert _fault(verify_export(sealed.export(), KEY, [forged])) == (0, 4)


@pytest.mark.parametrize("wanted", range(12))
def test_one_entry_is_proved_without_the_others(kept_log, wanted):
    lines = kept_log.export()
    proof = prove(lines, str(wanted))
    again = Proof.parse(str(proof))
    assert again == proof
    assert again.checked(KEY).size == 12
    entry = json.loads(again.content)
    assert prove(lines, entry["id"]) == proof


def test_a_proof_of_something_else_is_refused(kept_log):
    proof = prove(kept_log.export(), "3")
    changed = [
        Proof(proof.content.replace(b"why not", b"why yes"), 3, proof.path, proof.note),
        Proof(proof.content, 4, proof.path, proof.note),
        Proof(proof.content, 3, proof.path[:-1], proof.note),
        Proof(proof.content, 3, proof.path, SIGNER.signed(Checkpoint("x/a", 12, bytes(32)).text)),
        Proof(proof.content, 3, proof.path, proof.note.replace("\n12\n", "\n13\n")),
    ]
    for one in changed:
        with pytest.raises(Corrupt):
            one.checked(KEY)
    for text in ("", str(proof).replace("index", "indes"), str(proof).replace("extra ", "extra !")):
        with pytest.raises(Corrupt, match="no proof"):
            Proof.parse(text)


def test_nothing_is_proved_from_a_changed_export_or_about_what_it_lacks(kept_log):
    lines = kept_log.export()
    with pytest.raises(Missing, match="no entry '12'"):
        prove(lines, "12")
    changed = [*lines[:4], lines[4].replace(b"why not", b"why yes"), *lines[5:]]
    with pytest.raises(Corrupt, match="verify"):
        prove(changed, "3")


def test_the_key_is_that_of_the_seed():
    assert Signer("perpetune.test", SEED).verifier == KEY


def _notes(lines):
    notes = [json.loads(line)["checkpoint"] for line in lines if line.startswith(b'{"checkpoint"')]
    return [(Checkpoint.opened(note, KEY), note) for note in notes]


def _export(entries, notes) -> list[bytes]:
    """The file of these entries, each with its own hash, and of checkpoints by size."""
    lines = [header_line("perpetune.test/a")]
    for seq, entry in enumerate(entries):
        lines.append(entry_line(seq, hash_leaf(_canonical(entry)).hex(), entry))
        if seq + 1 in notes:
            lines.append(checkpoint_line(notes[seq + 1]))
    return lines


def _canonical(entry) -> bytes:
    line = entry_line(0, "0" * 64, entry)
    return line[len(b'{"entry":') : line.rindex(b',"leaf":"')]
