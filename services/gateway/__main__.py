"""`python -m services.gateway`: serve until SIGTERM."""

from __future__ import annotations

import uvicorn

from services.gateway.bootstrap import make_process_app
from services.gateway.settings import GatewaySettings
from shared.logging import configure_logging
from shared.process import process_settings


def main() -> None:
    """One process; our own log line per request replaces uvicorn's access log."""
    configure_logging("gateway", process_settings().log_level)
    settings = GatewaySettings()
    uvicorn.run(
        make_process_app(settings),
        host=settings.host,
        port=settings.port,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=settings.drain_seconds,
    )


if __name__ == "__main__":
    main()
