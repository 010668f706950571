"""Settings of the model server, read once at start from PERPETUNE_SERVING_*."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Le
from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from shared.settings import BaseServiceSettings


def count_physical_cores() -> int:
    """
    Physical cores this process may use: affinity, without hyper-threads, within the cgroup quota.

    llama.cpp and torch lose speed when two of their threads share a core or a core is throttled.
    """
    allowed = os.sched_getaffinity(0)
    siblings = {
        _read(Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")) or str(cpu)
        for cpu in allowed
    }
    quota, _, period = _read(Path("/sys/fs/cgroup/cpu.max")).partition(" ")
    if quota.isdigit() and period.isdigit():
        return max(1, min(len(siblings), int(quota) // int(period)))
    return max(1, len(siblings))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""


class ServingSettings(BaseServiceSettings):
    """
    Memory of a resident model is about 150 MiB plus slots x context_tokens x 22.5 KiB of KV cache
    (measured on SmolLM2-135M); the weights of the base are mapped and shared by all children.
    """

    model_config = SettingsConfigDict(env_prefix="PERPETUNE_SERVING_")

    # Loopback, because nobody is asked for a key and a load opens any path this process may read.
    # Inside a private network of containers: every interface, under the service's name.
    host: str = "127.0.0.1"
    advertised_host: str = "127.0.0.1"
    port: Annotated[int, Ge(1), Le(65_535)] = 8711

    # Residency.
    max_resident_models: Annotated[int, Ge(1), Le(256)] = 4
    start_timeout_seconds: Annotated[float, Ge(1), Le(3600)] = 60.0
    # A stopped model's requests may finish this long; inference gives a request 30 s in all.
    drain_seconds: Annotated[float, Ge(0), Le(3600)] = 30.0
    # When the whole server stops, its supervisor waits too: shorter than supervisor's 10 s.
    shutdown_seconds: Annotated[float, Ge(0), Le(600)] = 5.0
    # How often a child is asked whether it is in use; also the grain of "least recently used".
    probe_interval_seconds: Annotated[float, Ge(0.05), Le(60)] = 2.0
    # A child that stays silent this long is killed and started again. One step of 256 prompt
    # tokens takes about 2 s on two shared cores, so a minute is no slow step.
    hang_seconds: Annotated[float, Ge(5), Le(3600)] = 60.0

    # Each child.
    slots: Annotated[int, Ge(1), Le(256)] = 8
    context_tokens: Annotated[int, Ge(64), Le(131_072)] = 2048
    # Of one model. Two answer side by side during a canary, and threads that have to share a core
    # wait for each other at every layer. One reading each, two cores, beside a training, tokens/s
    # with one thread and with two: 76 and 55 at one client, 58 and 60 at eight. A model that has
    # the machine to itself may be faster with all cores.
    threads: Annotated[int, Ge(1), Le(1024)] = Field(
        default_factory=lambda: max(1, count_physical_cores() // 2)
    )

    # Of the scorer: one long pass at a time, with few places to wait.
    scoring_threads: Annotated[int, Ge(1), Le(1024)] = Field(default_factory=count_physical_cores)

    # Scoring and embeddings start at first use and stop when unused, to give memory back.
    idle_stop_seconds: Annotated[float, Ge(0.1), Le(86_400)] = 300.0
    score_timeout_seconds: Annotated[float, Ge(1), Le(3600)] = 300.0
    embedding_slots: Annotated[int, Ge(1), Le(64)] = 2
    embedding_context_tokens: Annotated[int, Ge(64), Le(8192)] = 2048

    @model_validator(mode="after")
    def _address_can_be_reached(self) -> ServingSettings:
        if self.host in {"0.0.0.0", "::"} and self.advertised_host == "127.0.0.1":  # noqa: S104
            raise ValueError(
                "PERPETUNE_SERVING_ADVERTISED_HOST must name this host when PERPETUNE_SERVING_HOST "
                "is a wildcard: callers on other hosts are sent to it"
            )
        return self
