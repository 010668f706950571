"""Connections to Postgres that do not wait for ever.

The server ends a slow statement, and TCP ends a dead connection. Neither helps when a proxy on
the way acknowledges bytes and forwards none: only the client's own clock notices.
"""

from __future__ import annotations

from typing import Any, TypeVar

from psycopg import Connection, OperationalError
from psycopg.abc import PQGen
from psycopg.errors import ConnectionTimeout
from psycopg.pq import TransactionStatus
from sqlalchemy import Engine, event

RV = TypeVar("RV")

# psycopg's own: how often a wait looks up, so that Ctrl-C is heard.
_LOOK_UP_SECONDS = 0.1


class PatientConnection(Connection[Any]):
    """
    Closes itself when an answer does not come.

    Attributes:
        answer_seconds: How long a wait for the server may take.
    """

    answer_seconds: float | None = None

    def wait(
        self, gen: PQGen[RV], interval: float = _LOOK_UP_SECONDS, timeout: float | None = None
    ) -> RV:
        """
        Exchange bytes with the server until *gen* is content.

        Raises:
            ConnectionTimeout: The server was silent; the connection is closed, since a late
                answer would be taken for that of the next statement.
        """
        try:
            return super().wait(gen, interval, timeout or self.answer_seconds)
        except OperationalError as error:
            if self.closed or self.pgconn.transaction_status != TransactionStatus.ACTIVE:
                raise
            self.pgconn.finish()
            raise ConnectionTimeout("the server does not answer; gave up waiting") from error


def patient_for(engine: Engine, seconds: float) -> None:
    """Let the connections of *engine* wait at most *seconds* for an answer."""

    def connect(
        _dialect: object, _record: object, arguments: list[Any], options: dict[str, Any]
    ) -> PatientConnection:
        connection = PatientConnection.connect(*arguments, **options)
        connection.answer_seconds = seconds
        return connection

    event.listen(engine, "do_connect", connect)
