"""
The database before the first process starts: its login roles, itself, its tables.

Used by the local stack, by the tests and, as `python -m infra.database`, by the one-shot job of a
server. Running it again changes nothing but the passwords.
"""

from __future__ import annotations

from collections.abc import Mapping

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from shared.settings import CoreSettings

# `app` lives under row-level security; `spine` rings, folds and copies snapshots across projects.
ROLES = {"app": "NOBYPASSRLS", "spine": "BYPASSRLS"}


def prepare(owner_url: str, passwords: Mapping[str, str]) -> None:
    """
    Make roles and database if they are missing, then migrate to the newest version.

    Args:
        owner_url: Of a superuser, in SQLAlchemy's form; names the database to make.
        passwords: By role, one for each of `ROLES`.
    """
    create_roles(owner_url, passwords)
    create_database(owner_url)
    from infra.migrations import upgrade  # noqa: PLC0415 - alembic is only needed here

    upgrade(owner_url)


def create_roles(owner_url: str, passwords: Mapping[str, str]) -> None:
    with maintenance(owner_url) as connection:
        for role, bypass in ROLES.items():
            known = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role])
            verb = "ALTER" if known.fetchone() else "CREATE"
            connection.execute(
                sql.SQL(
                    "{} ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE {} PASSWORD {}"
                ).format(
                    sql.SQL(verb),
                    sql.Identifier(role),
                    sql.SQL(bypass),
                    sql.Literal(passwords[role]),
                )
            )


def create_database(owner_url: str, *, template: str = "template0") -> None:
    name = make_url(owner_url).database
    assert name
    with maintenance(owner_url) as connection:
        known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
        if known.fetchone() is None:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                    sql.Identifier(name), sql.Identifier(template)
                )
            )


def drop_database(owner_url: str) -> None:
    """Remove the database even while sessions are connected to it."""
    name = make_url(owner_url).database
    assert name
    with maintenance(owner_url) as connection:
        connection.execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        )


def maintenance(owner_url: str) -> psycopg.Connection[tuple[object, ...]]:
    """A connection to the database `postgres`, outside any transaction."""
    address = make_url(owner_url).set(drivername="postgresql", database="postgres")
    return psycopg.connect(
        address.render_as_string(hide_password=False), autocommit=True, connect_timeout=5
    )


def main() -> None:
    """Prepare the database that PERPETUNE_DATABASE_APP_URL names, as its owner."""
    settings = CoreSettings()
    passwords = {role: settings.secret(f"{role}_password").get_secret_value() for role in ROLES}
    owner = make_url(settings.database_app_url).set(
        username="perpetune", password=settings.secret("postgres_password").get_secret_value()
    )
    prepare(owner.render_as_string(hide_password=False), passwords)


if __name__ == "__main__":
    main()
