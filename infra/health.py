"""
Health check of a container: `python -m infra.health [URL]`.

With a URL the process itself is asked. Without one, for processes that answer no HTTP, it is
checked that database and bus are within reach with the credentials the container has; that such a
process makes progress is seen by its leases and by the age of due deliveries, not from here.
"""

from __future__ import annotations

import sys
import urllib.request

import psycopg
import redis
from sqlalchemy import make_url

from shared.settings import CoreSettings

_TIMEOUT_SECONDS = 5


def main(arguments: list[str]) -> None:
    """Return when healthy; the error that escapes says what is not and makes the status 1."""
    if arguments:
        ask(arguments[0])
    else:
        reach(CoreSettings())


def ask(url: str) -> None:
    # A status of 400 or above raises.
    urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS).close()  # noqa: S310 - our own address


def reach(settings: CoreSettings) -> None:
    address = make_url(settings.database_app_url).set(drivername="postgresql")
    psycopg.connect(
        address.render_as_string(hide_password=False), connect_timeout=_TIMEOUT_SECONDS
    ).close()
    with redis.Redis.from_url(settings.bus_url, socket_timeout=_TIMEOUT_SECONDS) as bus:
        bus.ping()


if __name__ == "__main__":
    main(sys.argv[1:])
