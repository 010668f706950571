"""API keys: their form, their scopes, and the copy of them every door keeps in memory.

Form: `ppt_<key id>_<43 base62 characters>`. 256 random bits need no slow hash; what is stored
is an HMAC-SHA-256 with a pepper that is not in the database.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from sqlalchemy import text

from shared.errors import Forbidden, Unauthenticated
from shared.ids import Project, random_base62
from shared.rotation import RotatingSecret
from shared.snapshots import Snapshot

_KEY_ID_CHARACTERS = 10
_SECRET_CHARACTERS = 43


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request, as its API key says."""

    project: Project
    key_id: str
    scopes: frozenset[str]

    def require(self, scope: str) -> None:
        """
        Raises:
            Forbidden: The key lacks *scope*.
        """
        if scope not in self.scopes:
            raise Forbidden(
                f"This key lacks the scope '{scope}'; use a key that has it.", code="missing_scope"
            )


@dataclass(frozen=True, slots=True)
class StoredKey:
    """
    A key as the database holds it.

    Attributes:
        seconds_left: From the snapshot's reading to its end, by the database clock; None without.
        pepper: Fingerprint of the pepper that `mac` was made with; None when it is not known.
    """

    key_id: str
    project: Project
    mac: str
    scopes: frozenset[str]
    seconds_left: float | None
    pepper: str | None = None


@dataclass(frozen=True, slots=True)
class Outdated:
    """
    A key that was used and is not known to be stored under the pepper in use.

    Attributes:
        stored: What the database holds.
        mac: What it should hold.
        pepper: Fingerprint of the pepper in use.
    """

    stored: StoredKey
    mac: str
    pepper: str


def new_key() -> tuple[str, str]:
    """A fresh key id and the full key, which is shown once and stored nowhere."""
    key_id = random_base62(_KEY_ID_CHARACTERS)
    return key_id, f"ppt_{key_id}_{random_base62(_SECRET_CHARACTERS)}"


def mac_of(key: str, pepper: str) -> str:
    """HMAC-SHA-256 of the full *key*, hexadecimal."""
    return hmac.new(pepper.encode(), key.encode(), hashlib.sha256).hexdigest()


class KeyRing:
    """All valid keys in memory, at most one snapshot period old."""

    def __init__(self, snapshot: Snapshot[dict[str, StoredKey]], pepper: RotatingSecret) -> None:
        self._snapshot = snapshot
        self._pepper = pepper
        self._outdated: dict[str, Outdated] = {}

    def count_outdated(self) -> int:
        """Keys not known to be stored under the pepper in use, whether they are used or not."""
        pepper = self._pepper.values.fingerprint
        return sum(stored.pepper != pepper for stored in self._snapshot.value.values())

    def take_outdated(self) -> list[Outdated]:
        """Such keys as were used since the last call; one that stays so is noted again."""
        taken, self._outdated = self._outdated, {}
        return list(taken.values())

    def caller(self, authorization: str | None, *, may_read: bool = True) -> Caller:
        """
        The caller named by an Authorization header.

        Args:
            authorization: The header, or None.
            may_read: Whether an unknown key may cost a query; false where nothing may block.

        Raises:
            Unauthenticated: The header is absent, malformed, or its key unknown or expired.
        """
        scheme, _, key = (authorization or "").partition(" ")
        parts = key.strip().split("_")
        if scheme.lower() != "bearer" or len(parts) != 3 or parts[0] != "ppt":
            raise Unauthenticated(
                "Send an API key as 'Authorization: Bearer ppt_...'.", code="invalid_api_key"
            )
        return self._verified(parts[1], key.strip(), may_read=may_read)

    def _verified(self, key_id: str, key: str, *, may_read: bool) -> Caller:
        stored = self._snapshot.value.get(key_id)
        if may_read:
            # Another process may have stored this key under a pepper that this one has not seen.
            self._pepper.look()
        if stored is None and may_read:
            # A key made a moment ago may not be in memory yet; ask once, at a bounded rate.
            self._snapshot.refresh_soon()
            stored = self._snapshot.value.get(key_id)
        peppers = self._pepper.values
        macs = [mac_of(key, pepper) for pepper in peppers.accepted]
        # The same work is done for unknown ids and every pepper, so that timing tells nothing.
        expected = stored.mac if stored else "0" * 64
        matches = [hmac.compare_digest(mac, expected) for mac in macs]
        if stored is None or not any(matches):
            raise Unauthenticated("This API key is not known.", code="invalid_api_key")
        if self._has_ended(stored):
            raise Unauthenticated("This API key has expired; make a new one.", code="expired_key")
        if stored.pepper != peppers.fingerprint:
            self._outdated[key_id] = Outdated(stored, macs[0], peppers.fingerprint)
        return Caller(project=stored.project, key_id=stored.key_id, scopes=stored.scopes)

    def _has_ended(self, stored: StoredKey) -> bool:
        # Time that passed since, not the time of day: this machine's clock may be wrong.
        return stored.seconds_left is not None and stored.seconds_left <= self._snapshot.age_seconds


KEYS_QUERY = text("""
    SELECT key_id, project, mac, scopes,
           CAST(extract(epoch FROM expires_at - clock_timestamp()) AS float8), pepper
    FROM gateway.keys_v1
""")


def keys_from_rows(rows: list[tuple[object, ...]]) -> dict[str, StoredKey]:
    """The snapshot's value from the rows of KEYS_QUERY."""
    return {
        str(row[0]): StoredKey(
            key_id=str(row[0]),
            project=Project(str(row[1])),
            mac=str(row[2]),
            scopes=frozenset(row[3]),  # type: ignore[call-overload]  # a text[] column
            seconds_left=row[4] if isinstance(row[4], float) else None,
            pepper=None if row[5] is None else str(row[5]),
        )
        for row in rows
    }
