"""Alembic's entry: one connection, one lock, short timeouts."""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine, text

# Any number of starters may run at once; the second waits for the first.
_LOCK_KEY = 7_316_002

engine = create_engine(
    context.config.attributes["url"],
    # A migration must not queue behind a long transaction and stall the running release.
    connect_args={"options": "-c lock_timeout=4000 -c statement_timeout=30000"},
)
with engine.connect() as connection:
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK_KEY})
    connection.commit()
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
engine.dispose()
