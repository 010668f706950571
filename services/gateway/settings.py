"""Settings of the gateway process."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Le

from shared.settings import BaseServiceSettings


class GatewaySettings(BaseServiceSettings):
    """Where the gateway listens and what it refuses."""

    host: str = "127.0.0.1"
    port: Annotated[int, Ge(1), Le(65_535)] = 8700

    max_body_bytes: Annotated[int, Ge(1_024), Le(1 << 30)] = 4 << 20
    # The largest file OpenAI takes in one upload.
    max_upload_bytes: Annotated[int, Ge(1_024), Le(1 << 40)] = 512 << 20

    # Not ready above this age: a revoked key would be admitted for longer than we promise.
    snapshot_fresh_seconds: Annotated[float, Ge(0.1), Le(600)] = 5.0
    # A queue that nobody serves keeps what it gets; from here on its project is told to wait.
    # 100,000 jobs at once are legal, and counting up to here takes Postgres some 50 ms.
    unfinished_deliveries_per_project: Annotated[int, Ge(1), Le(10_000_000)] = 200_000
    # Open requests get this long when the process is asked to stop.
    drain_seconds: Annotated[int, Ge(1), Le(600)] = 8
