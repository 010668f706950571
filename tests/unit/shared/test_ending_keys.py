"""An API key ends by the database clock, whatever time of day its verifier believes it is."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from shared.errors import Unauthenticated
from shared.ids import Project
from shared.keys import KeyRing, StoredKey, mac_of, new_key
from shared.rotation import RotatingSecret

PEPPER = "pepper-of-the-test"


@dataclass
class _Snapshot:
    value: dict[str, StoredKey]
    age_seconds: float = 0.0


def test_a_key_ends_when_the_time_it_had_left_at_the_snapshot_has_passed():
    key_id, key = new_key()
    stored = StoredKey(key_id, Project("a"), mac_of(key, PEPPER), frozenset(), 0.5)
    snapshot = _Snapshot({key_id: stored})
    ring = KeyRing(snapshot, RotatingSecret.fixed(PEPPER))
    snapshot.age_seconds = 0.4
    assert ring.caller(f"Bearer {key}", may_read=False).key_id == key_id
    # Postgres is away, so the snapshot only grows older.
    snapshot.age_seconds = 0.5
    with pytest.raises(Unauthenticated, match="expired"):
        ring.caller(f"Bearer {key}", may_read=False)
