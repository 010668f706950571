"""The roles we log in with can add to the log, and do nothing else to it."""

from __future__ import annotations

import pytest
from sealed_log import context
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

TABLES = ("audit_entries", "audit_leaves", "audit_checkpoints")
ATTEMPTS = (
    "UPDATE spine.{} SET project = 'b'",
    "DELETE FROM spine.{}",
    "TRUNCATE spine.{}",
    "TRUNCATE spine.{} CASCADE",
    "ALTER TABLE spine.{} ADD COLUMN x int",
    "ALTER TABLE spine.{} DISABLE TRIGGER ALL",
    "ALTER TABLE spine.{} DISABLE TRIGGER USER",
    "ALTER TABLE spine.{} DISABLE ROW LEVEL SECURITY",
    "ALTER TABLE spine.{} OWNER TO app",
    "DROP TABLE spine.{}",
    "DROP TRIGGER spine_{0}_append_only ON spine.{0}",
    "CREATE RULE quietly AS ON INSERT TO spine.{} DO INSTEAD NOTHING",
)


@pytest.mark.parametrize("role", ["app", "spine"])
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_our_roles_cannot_change_what_is_written(kept_log, role, table, attempt):
    with (
        pytest.raises(ProgrammingError, match=r"permission denied|must be owner|append-only"),
        getattr(kept_log, role).open(context("a")) as uow,
    ):
        uow.session.execute(text(attempt.format(table)))
    assert kept_log.verify().fault is None


@pytest.mark.parametrize("role", ["app", "spine"])
@pytest.mark.parametrize("table", TABLES)
def test_our_roles_cannot_grant_themselves_more(kept_log, role, table):
    """Postgres answers with a warning where some privilege is held."""
    with getattr(kept_log, role).open(context("a")) as uow:
        uow.session.execute(text(f"GRANT SELECT, UPDATE, DELETE ON spine.{table} TO app, spine"))
    for grantee in ("app", "spine"):
        for privilege in ("UPDATE", "DELETE", "TRUNCATE", "TRIGGER"):
            [(held,)] = kept_log.rows(
                "SELECT has_table_privilege(:role, :table, :privilege)",
                role=grantee,
                table=f"spine.{table}",
                privilege=privilege,
            )
            assert not held


@pytest.mark.parametrize("role", ["app", "spine"])
@pytest.mark.parametrize(
    "statement",
    [
        "SET session_replication_role = replica",
        "SET ROLE perpetune_audit",
        "ALTER ROLE perpetune_audit LOGIN",
        (
            "CREATE OR REPLACE FUNCTION spine.refuse_change() RETURNS trigger "
            "LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"
        ),
    ],
)
def test_our_roles_cannot_step_around_the_triggers(kept_log, role, statement):
    with (
        pytest.raises(ProgrammingError, match=r"permission denied|must be"),
        getattr(kept_log, role).open(context("a")) as uow,
    ):
        uow.session.execute(text(statement))


@pytest.mark.parametrize("role", ["app", "spine"])
@pytest.mark.parametrize(("column", "value"), [("at", "'2000-01-01'"), ("xid", "'3'")])
def test_nobody_says_when_an_entry_was_written_but_the_database(kept_log, role, column, value):
    """An earlier transaction would put it behind what is sealed, where it stays unsealed."""
    with (
        pytest.raises(ProgrammingError, match="permission denied"),
        getattr(kept_log, role).open(context("a")) as uow,
    ):
        uow.session.execute(
            text(f"""
                INSERT INTO spine.audit_entries (id, project, actor, action, subject, reason,
                                                 facts, correlation_id, causation_id, {column})
                VALUES (gen_random_uuid(), 'a', 'x', 'x', 'x', 'x', '{{}}', 'x', 'x', {value})
            """)
        )


def test_the_application_cannot_seal(kept_log):
    for statement in (
        "INSERT INTO spine.audit_leaves VALUES ('a', 2, gen_random_uuid(), sha256('x'))",
        "INSERT INTO spine.audit_checkpoints SELECT * FROM spine.audit_checkpoints",
    ):
        with (
            pytest.raises(ProgrammingError, match="permission denied"),
            kept_log.app.open(context("a")) as uow,
        ):
            uow.session.execute(text(statement))


@pytest.mark.parametrize("table", [*TABLES, "audit_disclosures"])
def test_a_project_sees_its_own_log_only(kept_log, table):
    with kept_log.app.open(context("a")) as uow:
        uow.audit("thing.made", "x", personal={"name": "Anna"})
    with kept_log.app.open(context("b")) as uow:
        count = uow.session.execute(text(f"SELECT count(*) FROM spine.{table}")).scalar_one()
    assert count == 0


def test_the_owner_of_the_log_cannot_log_in(kept_log):
    owners = kept_log.rows(
        "SELECT DISTINCT r.rolname, r.rolcanlogin FROM pg_class c JOIN pg_roles r "
        "ON r.oid = c.relowner WHERE c.relname = ANY(:tables)",
        tables=list(TABLES),
    )
    assert owners == [("perpetune_audit", False)]
