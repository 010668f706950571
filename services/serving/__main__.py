"""Entry of the model server: `python -m services.serving`."""

from __future__ import annotations

import socket
import sys

import uvicorn

from services.serving.api import create_app
from services.serving.settings import ServingSettings
from shared.logging import configure_logging
from shared.settings import CoreSettings


def main() -> None:
    """Serve until SIGTERM or SIGINT; then drain and stop every child."""
    settings = ServingSettings()
    configure_logging("serving", CoreSettings().log_level)
    try:
        listener = socket.create_server((settings.host, settings.port))
    except OSError as error:
        sys.exit(
            f"The model server cannot listen on {settings.host}:{settings.port}: {error.strerror}. "
            "Free the port or set PERPETUNE_SERVING_PORT."
        )
    config = uvicorn.Config(
        create_app(settings),
        log_config=None,
        access_log=False,
        # A load that waits for room must not hold up the end.
        timeout_graceful_shutdown=max(1, round(settings.shutdown_seconds)),
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
