"""Settings of the delivery process, beside the core's ring and attempt settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Le
from pydantic import Field

from shared.settings import BaseServiceSettings


class DeliverySettings(BaseServiceSettings):
    """What outside subscribers may take up, and how often the slow chores run."""

    # At 8 KiB an event a full queue holds 8 MiB of the bus; the rest waits in Postgres.
    subscriber_queue_events: Annotated[int, Ge(1), Le(100_000)] = 1_000
    subscriptions_per_project: Annotated[int, Ge(1), Le(1_000)] = 50
    # A subscriber whose queue is full, or takes nothing, is looked at again after this long.
    subscriber_full_seconds: Annotated[float, Ge(0.1), Le(60)] = 1.0
    # A pusher that dies between reading and advancing holds a subscription for this long.
    subscriber_hold_seconds: Annotated[float, Ge(1), Le(600)] = 20.0
    # Schedules and subscribers: their periods and patience are longer than a ringing's.
    chore_milliseconds: Annotated[int, Ge(5), Le(5_000)] = 200
    # How long what is committed may still be changed without a trace.
    seal_milliseconds: Annotated[int, Ge(50), Le(60_000)] = 1_000
    # First part of every audit log's origin, and the name its key signs under.
    audit_name: Annotated[str, Field(pattern=r"^[^\s+/]{1,100}$")] = "perpetune.local"
    # Where checkpoints go besides the database; `witness` in the home when empty.
    audit_witness: Path | None = None

    # For so long a request repeated under its idempotency key gets the first one's answer; we
    # promise a day.
    idempotency_hours: Annotated[float, Ge(24), Le(8_760)] = 24.0
    # `host:port`, comma-separated, that webhooks may reach though they are private or speak no TLS.
    webhook_hosts: str = ""
    webhooks_per_project: Annotated[int, Ge(1), Le(1_000)] = 20
    # A sender that dies holds an endpoint for this long; an attempt takes 10 s at most.
    webhook_hold_seconds: Annotated[float, Ge(25), Le(600)] = 60.0
    # After so long without success an endpoint is disabled: three days, over a long weekend.
    webhook_give_up_seconds: Annotated[float, Ge(1), Le(2_592_000)] = 259_200.0
    # What was sent, and how it was answered, can be looked up for so long.
    webhook_log_days: Annotated[float, Ge(1), Le(365)] = 30.0

    # How often older answers are looked for. At twenty thousand a round this keeps up with a steady
    # 300 creations a second, and while there is work the rounds follow each other faster.
    forget_seconds: Annotated[float, Ge(0.1), Le(3_600)] = 60.0
