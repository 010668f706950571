"""API keys for tests, put where the gateway looks for them."""

from __future__ import annotations

from services.gateway import repository
from shared.context import Context
from shared.db import Units
from shared.ids import Project
from shared.keys import mac_of, new_key
from shared.scopes import SCOPES


def make_key(units: Units, project: str, pepper: str, scopes: frozenset[str] = SCOPES) -> str:
    """
    A key of *project*; the project is made as well.

    Args:
        units: Of the role `app`.
        project: Whose key it is.
        pepper: The value of `api_key_pepper` that is in use.
        scopes: What it may do.
    """
    key_id, key = new_key()
    with units.open(Context.root(Project(project), "test")) as uow:
        repository.insert_project(uow.session, uow.project)
        repository.insert_key(
            uow.session,
            uow.project,
            key_id=key_id,
            name="test",
            mac=mac_of(key, pepper),
            scopes=scopes,
            created_by="test",
            expires_at=None,
        )
    return key
