"""Signed notes and checkpoints against the published examples, and what is refused."""

from __future__ import annotations

import base64

import pytest

from shared.audit.checkpoint import Checkpoint
from shared.audit.note import Signer, Verifier
from shared.audit.witness import Witness, notes_in
from shared.errors import Corrupt, Invalid

# The examples of c2sp.org/signed-note and of the package golang.org/x/mod/sumdb/note.
PUBLISHED = [
    (
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "This is an example message.\n",
        (
            "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYj"
            "OBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
        ),
    ),
    (
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        (
            "If you think cryptography is the answer to your problem,\n"
            "then you don't know what your problem is.\n"
        ),
        (
            "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqf"
            "qdngotpRZb6KE6RyyBwJnAM=\n"
        ),
    ),
]
NEUMANN_PRIVATE = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"

SIGNER = Signer("perpetune.test", bytes(range(32)))
CHECKPOINT = Checkpoint("perpetune.test/a", 7, bytes(32))
NOTE = SIGNER.signed(CHECKPOINT.text)


@pytest.mark.parametrize(("key", "text", "signature"), PUBLISHED)
def test_published_notes_open_under_their_keys(key, text, signature):
    verifier = Verifier.parse(key)
    assert str(verifier) == key
    assert verifier.opened(f"{text}\n{signature}") == text


def test_signing_gives_the_published_note():
    key, text, signature = PUBLISHED[1]
    signer = Signer("PeterNeumann", base64.b64decode(NEUMANN_PRIVATE)[1:])
    assert str(signer.verifier) == key
    assert signer.signed(text) == f"{text}\n{signature}"


def test_a_signature_of_somebody_else_beside_ours_is_no_matter():
    theirs = Signer("somebody.else", bytes(32)).signed(CHECKPOINT.text)
    both = NOTE + theirs.rpartition("\n\n")[2]
    assert Checkpoint.opened(both, SIGNER.verifier) == CHECKPOINT
    assert SIGNER.verifier.opened(both) == CHECKPOINT.text


@pytest.mark.parametrize(
    "note",
    [
        "",
        CHECKPOINT.text,
        CHECKPOINT.text + "\n— perpetune.test AAAA\n",
        NOTE.replace("— ", "— not-"),
        Signer("perpetune.test", bytes(32)).signed(CHECKPOINT.text),
        NOTE.replace("\n7\n", "\n8\n"),
        NOTE.replace("perpetune.test/a", "perpetune.test/b"),
        NOTE.replace("\n\n", "\nmore\n\n"),
    ],
)
def test_a_note_that_this_key_did_not_sign_is_refused(note):
    with pytest.raises(Corrupt):
        Checkpoint.opened(note, SIGNER.verifier)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "name",
        "name+00000000+AAAA",
        PUBLISHED[0][0].replace("530d", "530e"),
        PUBLISHED[0][0][:-4],
    ],
)
def test_what_is_no_key_is_refused_by_name(key):
    with pytest.raises(Invalid, match="public key"):
        Verifier.parse(key)


@pytest.mark.parametrize("size", ["-1", "007", "x", ""])
def test_a_text_that_is_no_checkpoint_is_refused_although_signed(size):
    note = SIGNER.signed(CHECKPOINT.text.replace("\n7\n", f"\n{size}\n"))
    with pytest.raises(Corrupt, match="checkpoint"):
        Checkpoint.opened(note, SIGNER.verifier)


def test_a_witness_appends_and_remembers_the_last_note(tmp_path):
    witness = Witness(tmp_path / "witness")
    assert witness.last("a") is None
    notes = [SIGNER.signed(Checkpoint("perpetune.test/a", n, bytes(32)).text) for n in range(1, 90)]
    for note in notes:
        witness.append("a", note)
    assert witness.last("a") == notes[-1]
    assert list(notes_in(witness.path("a").read_text())) == notes
    assert witness.last("b") is None


@pytest.mark.parametrize("kept", [5, 30, 62, 63, 64, 90, 130, len(NOTE.encode()) - 2])
def test_a_torn_write_is_passed_over_and_hides_nothing(tmp_path, kept):
    witness = Witness(tmp_path)
    witness.append("a", NOTE)
    with witness.path("a").open("ab") as file:
        file.write(b"\n" + NOTE.encode()[:kept])
    assert witness.last("a") == NOTE
    later = SIGNER.signed(Checkpoint("perpetune.test/a", 9, bytes(32)).text)
    witness.append("a", later)
    assert list(notes_in(witness.path("a").read_text())) == [NOTE, later]


def test_a_projects_name_cannot_lead_out_of_the_folder(tmp_path):
    witness = Witness(tmp_path / "witness")
    witness.append("../a/b", NOTE)
    assert [path.parent for path in tmp_path.rglob("*.notes")] == [tmp_path / "witness"]
