"""SQL that every tenant table needs: forced row-level security and the grants of our roles."""

from __future__ import annotations

from alembic import op


def protect(table: str, *, grants: str = "SELECT, INSERT, UPDATE, DELETE") -> None:
    """
    Let the role `app` see and write only rows of the project set in its transaction.

    An unset project compares with NULL and shows nothing.

    Args:
        table: `<schema>.<table>` with a column `project`.
        grants: Privileges of `app`.
    """
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(
        f"CREATE POLICY project_only ON {table} "
        "USING (project = current_setting('app.project', true)) "
        "WITH CHECK (project = current_setting('app.project', true))"
    )
    op.execute(f"GRANT {grants} ON {table} TO app")


def open_schema(schema: str) -> None:
    """Create *schema*, usable by both login roles; tables are granted one by one."""
    op.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    op.execute(f"GRANT USAGE ON SCHEMA {schema} TO app, spine")


def append_only(table: str) -> None:
    """Refuse UPDATE, DELETE and TRUNCATE on *table* for every role that fires triggers."""
    name = table.replace(".", "_")
    op.execute(
        f"CREATE TRIGGER {name}_append_only BEFORE UPDATE OR DELETE ON {table} "
        "FOR EACH ROW EXECUTE FUNCTION spine.refuse_change()"
    )
    op.execute(
        f"CREATE TRIGGER {name}_no_truncate BEFORE TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION spine.refuse_change()"
    )
