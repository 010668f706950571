"""Every Celery setting in one place, each with its reason.

The broker carries only ringing bells: the truth is a row in `spine.deliveries`. Losing all of
Redis costs time, not work.
"""

from __future__ import annotations

from typing import Any

from celery import Celery
from kombu import Exchange, Queue

from shared.settings import CoreSettings

ROOM_QUEUES = (
    "drift",
    "evaluation",
    "feedback",
    "finetuning",
    "ingestion",
    "releases",
    "workloads",
)

# Header of a message that rings more than one delivery: the ids after the first, which is the
# argument. A worker of 0.1.0 does not look at it and answers the first; the others are rung again.
FURTHER = "further_deliveries"
# Enough to make a message's own cost small; a killed worker makes so many wait.
MOST_RUNG_TOGETHER = 16

# kombu keeps a list for each of these; our transport fetches from a queue's first that holds
# something. Workers of 0.1.0 fetch from all of them too: it is kombu's default.
PRIORITIES = (0, 3, 6, 9)

_EXCHANGE = Exchange("tasks", type="direct")


def make_celery(settings: CoreSettings) -> Celery:
    """The Celery application of workers and of the ringer."""
    app = Celery("perpetune", broker=settings.bus_url)
    app.conf.update(celery_settings(settings))
    return app


def lists_of(queue: str) -> list[str]:
    """
    Names of the lists in which kombu keeps a queue, without the prefix, by priority.

    Source: kombu 5.7.0, `kombu.transport.redis.Channel._q_for_pri`.
    """
    return [f"{queue}\x06\x16{priority}" if priority else queue for priority in PRIORITIES]


def celery_settings(settings: CoreSettings) -> dict[str, Any]:
    """The settings as a plain mapping; see `shared/settings.py` for units and bounds."""
    return {
        # Acknowledged after the effect: a killed worker's message is not lost at once.
        "task_acks_late": True,
        # Failure is a state of the row, never of the message.
        "task_acks_on_failure_or_timeout": True,
        # The ringer counts attempts; redelivery by the broker would loop on what kills a worker.
        "task_reject_on_worker_lost": False,
        # A long task must not hold others hostage; costs no throughput.
        "worker_prefetch_multiplier": 1,
        "task_time_limit": settings.task_hard_limit_seconds,
        "task_soft_time_limit": settings.task_soft_limit_seconds,
        # The broker's own redelivery: three hard limits, so that no running task is repeated.
        "visibility_timeout": settings.visibility_timeout_seconds,
        "broker_transport_options": {
            "visibility_timeout": settings.visibility_timeout_seconds,
            # Restore what a dead worker left within one visibility timeout, not ten sweeps later.
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 1,
            "unacked_mutex_expire": 30,
            # An error instead of a hang when Redis freezes or a firewall drops silently.
            "socket_timeout": settings.bus_timeout_seconds,
            "socket_connect_timeout": settings.bus_connect_timeout_seconds,
            "socket_keepalive": True,
            "health_check_interval": settings.bus_health_seconds,
            # The client's own repeat would ring twice without anybody knowing.
            "retry_on_timeout": False,
            # Another application on the same Redis must not share our unacked set.
            "global_keyprefix": settings.broker_prefix,
            "priority_steps": list(PRIORITIES),
            # Publishes to a lost binding land here instead of vanishing.
            "deadletter_queue": "dead",
        },
        # What nobody can read is dropped instead of ending one worker after another.
        "broker_transport": "shared.transport:Transport",
        # A typo in a queue name fails where it is made.
        "task_create_missing_queues": False,
        # Each queue has a key of its own: the default key would bind all of them to one.
        "task_queues": [Queue(name, _EXCHANGE, routing_key=name) for name in ROOM_QUEUES],
        "task_default_queue": "workloads",
        # A copy that goes on after the connection broke would run beside its redelivery.
        "worker_cancel_long_running_tasks_on_connection_loss": True,
        # The sleep is unconditional in 5.7, so it is short where people wait for it.
        "worker_soft_shutdown_timeout": settings.worker_soft_shutdown_seconds,
        "worker_enable_soft_shutdown_on_idle": False,
        # Delays are rows with due_at; a message with a far ETA is held in worker memory.
        "worker_eta_task_limit": 100,
        # fork() copies locks of torch, psycopg and gRPC in the wrong state.
        "worker_pool_start_method": "spawn",
        # A spawned child imports every room before it reports; a busy laptop takes its time.
        "worker_proc_alive_timeout": 60.0,
        # In KiB. A child that has leaked is replaced; by count it would be every few seconds of a
        # backlog, and a new one imports for a second or more.
        "worker_max_memory_per_child": 500_000,
        # State is a row; results in Redis would be a second truth.
        "task_ignore_result": True,
        # Pickle is code.
        "task_serializer": "json",
        "accept_content": ["json"],
        # Wait for Redis; the supervisor handles processes that exit all the same.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # A bus without room for a new worker's bindings is waited for like one that is away.
        "broker_channel_error_retry": True,
        # Anybody who can publish could shut workers down; and fewer sockets die less often.
        "worker_enable_remote_control": False,
        "worker_hijack_root_logger": False,
        "worker_send_task_events": False,
        "enable_utc": True,
    }
