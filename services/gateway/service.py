"""Making, listing and revoking API keys."""

from __future__ import annotations

from services.gateway import domain, repository
from services.gateway.repository import KeyRow
from shared.db import UnitOfWork
from shared.errors import Corrupt, Invalid, Missing
from shared.keys import Caller, Outdated, mac_of, new_key
from shared.rotation import Values


def create_key(
    uow: UnitOfWork,
    pepper: Values,
    caller: Caller,
    *,
    name: str,
    scopes: list[str],
    expires_in_days: int | None,
) -> tuple[KeyRow, str]:
    """
    Make a key for the caller's project.

    Args:
        uow: Of the caller's project.
        pepper: Keys of the HMAC under which API keys are stored.
        caller: Who asks; the new key has no scope beyond the caller's.
        name: For people.
        scopes: What it may do.
        expires_in_days: Life time; None is for ever.

    Returns:
        What is stored, and the key itself, which exists nowhere else.

    Raises:
        Invalid: Unknown or no scopes.
        Forbidden: The caller lacks one of them.
    """
    granted = domain.check_grant(scopes, caller.scopes)
    key_id, key = new_key()
    repository.insert_key(
        uow.session,
        uow.project,
        key_id=key_id,
        name=name,
        mac=mac_of(key, pepper.current),
        pepper=pepper.fingerprint,
        scopes=granted,
        created_by=uow.context.actor,
        expires_at=domain.expiry(uow.now, expires_in_days),
    )
    # Keys are often named after the person who holds them.
    facts, personal = {"scopes": sorted(granted)}, {"name": name}
    uow.audit("key.created", key_id, facts=facts, personal=personal)
    stored = repository.find_key(uow.session, key_id)
    if stored is None:
        raise Corrupt("A key that was just stored is not there.", code="key_not_stored")
    return stored, key


def list_keys(uow: UnitOfWork, after: str | None, limit: int) -> list[KeyRow]:
    """
    One page of the project's keys and one more, newest first.

    Raises:
        Invalid: *after* is no key of this project.
    """
    last = repository.find_key(uow.session, after) if after else None
    if after and last is None:
        raise Invalid(
            f"There is no key {after} to go on after.", code="unknown_cursor", param="after"
        )
    return repository.list_keys(uow.session, last, limit + 1)


def revoke_key(uow: UnitOfWork, key_id: str) -> KeyRow:
    """
    End a key; every process refuses it within one snapshot period. Revoking again changes nothing.

    Raises:
        Missing: There is no such key in this project.
    """
    if repository.revoke_key(uow.session, key_id):
        uow.audit("key.revoked", key_id)
    stored = repository.find_key(uow.session, key_id)
    if stored is None:
        raise Missing(f"There is no key {key_id} in this project.", code="key_not_found")
    return stored


def renew_key(uow: UnitOfWork, found: Outdated) -> bool:
    """
    Store a key that was used under the pepper in use; False when it was changed meanwhile.

    Only a key that was stored under another pepper leaves an audit entry.
    """
    stored = found.stored
    if not repository.renew_key(
        uow.session, stored.key_id, old_mac=stored.mac, mac=found.mac, pepper=found.pepper
    ):
        return False
    if found.mac != stored.mac:
        uow.audit("key.renewed", stored.key_id, reason="stored under the pepper in use")
    return True
