"""Real servers for every test: one Postgres and one Valkey a run, one database a test."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import redis
from hypothesis import HealthCheck, settings
from sqlalchemy import make_url

from infra import database as databases
from infra.local import embedded

_ROLE_PASSWORD = "perpetune-tests"
_TEMPLATE = "perpetune_template"

# A property does not become false on a busy machine.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@dataclass(frozen=True)
class TestDatabase:
    """Addresses of one migrated, empty database, by role, in SQLAlchemy's form."""

    __test__ = False

    owner: str
    app: str
    spine: str


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Address of a superuser: TEST_POSTGRES_DSN, or a private server's."""
    given = os.environ.get("TEST_POSTGRES_DSN")
    if given:
        yield make_url(given).set(drivername="postgresql+psycopg").render_as_string(False)
        return
    with embedded.private_postgres() as server:
        yield server.url


@pytest.fixture(scope="session")
def valkey() -> Iterator[str]:
    """URL of a bus: TEST_REDIS_URL, or a private server's."""
    given = os.environ.get("TEST_REDIS_URL")
    if given:
        yield given
        return
    with embedded.private_valkey("bus") as server:
        yield server.url


@pytest.fixture(scope="session")
def template_database(postgres: str) -> Iterator[str]:
    """Name of a database that was migrated once and is only ever copied."""
    name = f"{_TEMPLATE}_{secrets.token_hex(4)}"
    owner = _address(postgres, name)
    databases.prepare(owner, dict.fromkeys(databases.ROLES, _ROLE_PASSWORD))
    yield name
    databases.drop_database(owner)


@pytest.fixture
def database(postgres: str, template_database: str) -> Iterator[TestDatabase]:
    """A database of this test's own."""
    yield from _copied(postgres, template_database)


@pytest.fixture(scope="module")
def module_database(postgres: str, template_database: str) -> Iterator[TestDatabase]:
    """A database shared by the tests of one module, which keep apart by project."""
    yield from _copied(postgres, template_database)


@pytest.fixture
def bus_url(valkey: str) -> str:
    """URL of an empty bus."""
    with redis.Redis.from_url(valkey) as client:
        client.flushdb()
    return valkey


def _copied(postgres: str, template: str) -> Iterator[TestDatabase]:
    name = f"perpetune_{secrets.token_hex(6)}"
    owner = _address(postgres, name)
    databases.create_database(owner, template=template)
    yield TestDatabase(
        owner=owner,
        app=_address(postgres, name, role="app"),
        spine=_address(postgres, name, role="spine"),
    )
    databases.drop_database(owner)


def _address(postgres: str, name: str, role: str | None = None) -> str:
    url = make_url(postgres).set(database=name)
    if role:
        url = url.set(username=role, password=_ROLE_PASSWORD)
    return url.render_as_string(hide_password=False)
