"""Secrets in files that change under a running process."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from structlog.testing import capture_logs

from shared import rotation
from shared.errors import Invalid, Missing, Unauthenticated
from shared.ids import Project
from shared.keys import KeyRing, StoredKey, mac_of, new_key
from shared.rotation import RotatingSecret, Values
from shared.settings import CoreSettings

OLD, NEW, THIRD = "old-" + "a" * 30, "new-" + "b" * 30, "third-" + "c" * 30


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "receipt_key"
    file.write_text(OLD)
    return file


def _changed(file, text):
    """Written, and left alone for as long as it takes to count."""
    file.write_text(text)
    time.sleep(rotation._SETTLED_SECONDS + 0.05)


def test_a_file_without_a_line_feed_holds_one_value(file):
    assert RotatingSecret.at(file).values == Values.of(OLD)


def test_the_first_line_is_in_use_and_the_others_are_accepted(file):
    file.write_text(f"{NEW}\n\n{OLD} \n{THIRD}\n")
    values = RotatingSecret.at(file).values
    assert values.current == NEW
    assert values.accepted == (NEW, OLD, THIRD)


@pytest.mark.parametrize("is_replaced", [True, False], ids=["renamed", "in place"])
def test_a_changed_file_is_in_force_after_about_a_second_without_being_asked_twice(
    file, is_replaced
):
    secret = RotatingSecret.at(file)
    if is_replaced:
        other = file.with_name("other")
        other.write_text(f"{NEW}\n{OLD}\n")
        other.rename(file)
    else:
        file.write_text(f"{NEW}\n{OLD}\n")
    began = time.monotonic()
    while secret.values.current != NEW:
        assert time.monotonic() - began < 1.5 + rotation._SETTLED_SECONDS
        time.sleep(0.01)
    assert secret.values.accepted == (NEW, OLD)
    _changed(file, NEW)
    secret.look()
    assert secret.values.accepted == (NEW,)


def test_the_hot_path_looks_at_the_file_once_a_second_at_most(file, monkeypatch):
    secret = RotatingSecret.at(file)
    looks = []
    monkeypatch.setattr(secret, "_reread", lambda _: looks.append(time.monotonic()))
    until = time.monotonic() + 2.5

    def use():
        while time.monotonic() < until:
            assert secret.values.current == OLD

    with ThreadPoolExecutor(4) as pool:
        for used in [pool.submit(use) for _ in range(4)]:
            used.result()
    assert len(looks) == 2
    assert looks[1] - looks[0] >= 1.0


def test_a_file_that_is_being_written_is_not_read_until_it_is_whole(file):
    secret = RotatingSecret.at(file)
    with file.open("w") as writer:
        for line in (NEW, OLD):
            writer.write(f"{line}\n")
            writer.flush()
            secret.look()
            assert secret.values.accepted == (OLD,)
    time.sleep(rotation._SETTLED_SECONDS + 0.05)
    secret.look()
    assert secret.values.accepted == (NEW, OLD)


def test_a_file_from_a_host_whose_clock_is_ahead_is_read(file, monkeypatch):
    secret = RotatingSecret.at(file)
    file.write_text(NEW)
    monkeypatch.setattr(time, "time", lambda: file.stat().st_ctime - 7200)
    secret.look()
    assert secret.values.current == NEW


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "is empty"), ("\n \n", "is empty"), (f"{NEW}\n# until May\n", "Value 2 of secret")],
)
def test_a_file_that_says_nothing_usable_leaves_the_last_good_values_and_one_warning(
    file, text, reason
):
    secret = RotatingSecret.at(file)
    with capture_logs() as lines:
        _changed(file, text)
        for _ in range(3):
            secret.look()
        assert secret.values.accepted == (OLD,)
        _changed(file, f"{NEW}\n")
        secret.look()
    assert secret.values.accepted == (NEW,)
    assert [line["event"] for line in lines] == ["secret_unreadable", "secret_changed"]
    assert reason in lines[0]["reason"]


def test_a_file_that_is_gone_leaves_the_last_good_values_and_one_warning(file):
    secret = RotatingSecret.at(file)
    file.unlink()
    with capture_logs() as lines:
        for _ in range(3):
            secret.look()
    assert secret.values.accepted == (OLD,)
    assert [(line["event"], line["reason"]) for line in lines] == [
        ("secret_unreadable", "FileNotFoundError")
    ]


def test_no_value_is_shown_by_logs_errors_or_representations(file):
    secret = RotatingSecret.at(file)
    with capture_logs() as lines:
        _changed(file, f"{NEW}\n{OLD}\n")
        secret.look()
        _changed(file, f"{NEW}\nshort\n")
        secret.look()
    with pytest.raises(Invalid) as refused:
        RotatingSecret.at(file)
    shown = f"{lines} {secret!r} {secret} {secret.values!r} {refused.value}"
    assert len(lines) == 2
    assert not [value for value in (OLD, NEW, "short") if value in shown]


def test_settings_find_the_file_or_the_variable_and_name_both_when_there_is_none(
    tmp_path, monkeypatch
):
    settings = CoreSettings(secrets_dir=tmp_path)
    with pytest.raises(Missing, match="PERPETUNE_SECRET_RECEIPT_KEY"):
        settings.rotating_secret("receipt_key")
    (tmp_path / "receipt_key").write_text(f"{NEW}\n{OLD}")
    assert settings.rotating_secret("receipt_key").values.accepted == (NEW, OLD)
    (tmp_path / "receipt_key").write_text("")
    with pytest.raises(Missing, match="is empty"):
        settings.rotating_secret("receipt_key")
    monkeypatch.setenv("PERPETUNE_SECRET_RECEIPT_KEY", "fixed")
    assert settings.rotating_secret("receipt_key").values.accepted == ("fixed",)


class _Snapshot:
    def __init__(self, *keys):
        self.value = {stored.key_id: stored for stored in keys}

    def refresh_soon(self):
        """Nothing newer exists."""


def _stored(pepper, marked=None):
    key_id, key = new_key()
    return StoredKey(key_id, Project("a"), mac_of(key, pepper), frozenset(), None, marked), key


def test_a_key_is_admitted_under_every_accepted_pepper_and_under_no_other(file):
    file.write_text(f"{NEW}\n{OLD}\n")
    keys = {pepper: _stored(pepper) for pepper in (NEW, OLD, THIRD)}
    ring = KeyRing(_Snapshot(*(stored for stored, _ in keys.values())), RotatingSecret.at(file))
    for pepper in (NEW, OLD):
        assert ring.caller(f"Bearer {keys[pepper][1]}").key_id == keys[pepper][0].key_id
    with pytest.raises(Unauthenticated):
        ring.caller(f"Bearer {keys[THIRD][1]}")


def test_a_key_stored_by_a_process_that_saw_the_new_pepper_first_is_admitted(file):
    stored, key = _stored(NEW)
    ring = KeyRing(_Snapshot(stored), RotatingSecret.at(file))
    _changed(file, f"{NEW}\n{OLD}\n")
    # The event loop does not look; the thread that is asked next does.
    with pytest.raises(Unauthenticated):
        ring.caller(f"Bearer {key}", may_read=False)
    assert ring.caller(f"Bearer {key}").key_id == stored.key_id
    assert ring.caller(f"Bearer {key}", may_read=False).key_id == stored.key_id


def test_a_used_key_is_noted_with_what_should_be_stored_and_an_unused_one_is_counted(file):
    file.write_text(f"{NEW}\n{OLD}\n")
    in_use = Values.of(NEW).fingerprint
    old, old_key = _stored(OLD, Values.of(OLD).fingerprint)
    unmarked, unmarked_key = _stored(NEW)
    unused, _ = _stored(OLD)
    good, good_key = _stored(NEW, in_use)
    ring = KeyRing(_Snapshot(old, unmarked, unused, good), RotatingSecret.at(file))
    for key in (old_key, unmarked_key, good_key, old_key):
        ring.caller(f"Bearer {key}")
    assert ring.count_outdated() == 3
    assert {(found.stored, found.mac, found.pepper) for found in ring.take_outdated()} == {
        (old, mac_of(old_key, NEW), in_use),
        (unmarked, unmarked.mac, in_use),
    }
    assert ring.take_outdated() == []
