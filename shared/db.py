"""Postgres: engines, the unit of work, and the project it acts for.

One boundary opens, commits and closes a transaction (`Units.open`); use cases and repositories
never commit. Row-level security shows a unit of work only the rows of its project.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DataError, DBAPIError, InvalidatePoolError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import ConnectionPoolEntry
from sqlmodel import Session

from shared.context import Context
from shared.contracts.envelope import Message
from shared.errors import Invalid, Unavailable
from shared.ids import Project
from shared.patience import patient_for
from shared.settings import CoreSettings

# SQLSTATE classes after which the same transaction may succeed: connection, resources,
# serialisation and deadlock, operator intervention, a lock not had in time, and a server that only
# reads: a standby, on which a connection ended up during a failover. Source: PostgreSQL manual,
# appendix A.
_TRANSIENT = ("08", "53", "40", "57", "55P03", "25006")
# A NUL in a text has no state; a number out of range, a character that does not exist, a NUL in
# JSON.
_UNFIT = ("", "22003", "22021", "22P05")
# The instant comes with it: who emits or audits needs it, and a round trip costs more than it.
_ACT_FOR = text("SELECT set_config('app.project', :project, true), now()")
# A connection in steady use is not asked whether it still stands. Should it have broken since, the
# statement fails as `Unavailable`, nothing is written, and the pool makes all connections anew.
_ASKED_AFTER_SECONDS = 1.0


def make_engine(url: str, settings: CoreSettings, *, pool: int | None = None) -> Engine:
    """
    An engine with our timeouts on every connection.

    Args:
        url: `postgresql+psycopg://role:password@host:port/database`.
        settings: Timeouts and pool size.
        pool: Connections kept; the setting when None.
    """
    silence = settings.database_silence_seconds
    keepalive = max(1, silence // 4)
    options = (
        f"-c statement_timeout={settings.statement_timeout_milliseconds} "
        f"-c lock_timeout={settings.lock_timeout_milliseconds} "
        f"-c idle_in_transaction_session_timeout={settings.idle_transaction_milliseconds} "
        # The server's end of a cut connection holds locks, and a place, until it notices.
        f"-c tcp_user_timeout={1000 * silence} -c tcp_keepalives_idle={keepalive} "
        f"-c tcp_keepalives_interval={keepalive} "
        # Statements are short. A backlog makes some look costly, and compiling them is what costs.
        "-c jit=off "
        "-c timezone=UTC"
    )
    engine = create_engine(
        url,
        pool_size=pool or settings.database_pool_connections,
        max_overflow=0,
        pool_timeout=settings.database_pool_seconds,
        # Errors are logged and stored as reasons; what a statement carries is a project's content.
        hide_parameters=True,
        connect_args={
            "options": options,
            "connect_timeout": settings.database_connect_seconds,
            # Bytes under way are given up after the user timeout; keepalives make some.
            "tcp_user_timeout": 1000 * silence,
            "keepalives_idle": keepalive,
            "keepalives_interval": keepalive,
        },
    )
    patient_for(engine, settings.answer_seconds)
    _ask_idle_connections(engine)
    return engine


def _ask_idle_connections(engine: Engine) -> None:
    """Like `pool_pre_ping`, which costs a round trip each time, for those that lay idle."""

    @event.listens_for(engine, "checkin")
    def remember(_connection: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
        record.info["idle_since"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def ask(connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: object) -> None:
        idle_since = record.info.get("idle_since")
        if idle_since is None or time.monotonic() - idle_since < _ASKED_AFTER_SECONDS:
            return
        try:
            engine.dialect.do_ping(connection)
        except psycopg.Error as error:
            # Of all that were made before, none stands; the pool tries again with a new one.
            raise InvalidatePoolError from error


@dataclass
class UnitOfWork:
    """One transaction on behalf of one project.

    Attributes:
        session: For repositories only.
        context: Project, actor and causes.
    """

    session: Session
    context: Context
    _now: datetime | None = field(default=None, repr=False)

    @property
    def project(self) -> Project:
        return self.context.project

    @property
    def now(self) -> datetime:
        """The instant this transaction began, by the database clock, UTC."""
        if self._now is None:
            self._now = self.session.execute(text("SELECT now()")).scalar_one()
        return self._now

    def take_turn(self, act: str, subject: str) -> None:
        """
        Wait until nobody else of the project is at this, and keep others waiting until the end of
        the transaction.

        Args:
            act: What is done one by one, `<room>.<act>`.
            subject: To what: an id or a digest.
        """
        self.session.execute(
            text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"),
            {"key": f"{act}:{self.project}:{subject}"},
        )

    def emit(self, message: Message, *, due_in_seconds: float = 0.0) -> str:
        """
        Send *message* to every consumer of the catalogue, in this transaction.

        Args:
            message: A command or a fact.
            due_in_seconds: When the deliveries become due; 0 is at once.

        Returns:
            The id of the envelope.
        """
        from shared.spine import deliveries  # noqa: PLC0415 - the spine imports this module

        return deliveries.emit(self, message, due_in_seconds=due_in_seconds)

    def audit(
        self,
        action: str,
        subject: str,
        *,
        reason: str = "",
        facts: dict[str, Any] | None = None,
        personal: dict[str, Any] | None = None,
    ) -> None:
        """
        Append an audit entry, in this transaction.

        Args:
            action: `<noun>.<past participle>`, for example `release.promoted`.
            subject: Id of what it happened to.
            reason: Why, in a sentence.
            facts: Evidence that may be shown to the project; no personal data.
            personal: What may have to be erased one day, by name. The entry itself holds only a
                commitment to each value.
        """
        from shared.audit import entries  # noqa: PLC0415 - the entries import this module

        entries.append(
            self, action, subject, reason=reason, facts=facts or {}, personal=personal or {}
        )


class Units:
    """Opens units of work on one engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @contextmanager
    def open(self, context: Context) -> Iterator[UnitOfWork]:
        """
        A unit of work for `context.project`: commits on a clean exit, rolls back on an error.

        Raises:
            Unavailable: Postgres is away or refused for a passing reason; nothing was written.
                Under the code `outcome_unknown` the connection broke during the commit.
        """
        with mapped_database_errors(), Session(self.engine, expire_on_commit=False) as session:
            uow = UnitOfWork(session, context)
            if context.project:
                _, now = session.execute(_ACT_FOR, {"project": context.project}).one()
                uow = UnitOfWork(session, context, now)
            yield uow
            _commit(session)


def _commit(session: Session) -> None:
    try:
        session.commit()
    except OperationalError as error:
        if not error.connection_invalidated:
            raise
        raise Unavailable(
            "The database went away during the commit, so the change may have been made or not. "
            "Look before you repeat it.",
            code="outcome_unknown",
            retry_after=1,
        ) from error


@contextmanager
def mapped_database_errors() -> Iterator[None]:
    """Turn passing failures of Postgres into `Unavailable`; leave programming errors alone."""
    try:
        yield
    except PoolTimeoutError as error:
        raise Unavailable(
            "All connections to the database are in use; nothing was changed. Repeat in a moment.",
            code="database_busy",
            retry_after=1,
        ) from error
    except DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None) or ""
        if error.connection_invalidated or state.startswith(_TRANSIENT):
            raise Unavailable(
                "The database does not answer; nothing was changed. Repeat in a moment.",
                code="database_unavailable",
                retry_after=1,
            ) from error
        if isinstance(error, DataError) and state in _UNFIT:
            raise Invalid(
                "A value holds a character, or is of a size, that cannot be stored.",
                code="invalid_value",
            ) from error
        if isinstance(error, OperationalError) and not state:
            raise Unavailable(
                "The database cannot be reached. Repeat in a moment.",
                code="database_unavailable",
                retry_after=1,
            ) from error
        raise
