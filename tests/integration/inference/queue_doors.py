"""The queue door in a thread or as a process, and senders of both kinds."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery
from inference_doors import PROJECT, World, await_true
from kombu import Connection, Exchange, Producer, Queue
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from sqlalchemy import text

from services.inference.door.answers import Answers
from services.inference.door.dead_letters import DeadLetters
from services.inference.door.door import QueueDoor
from services.inference.door.mailbox import Mailbox
from services.inference.door.messages import queue_of
from shared.context import Context
from shared.db import Units, make_engine
from shared.ids import Project
from shared.settings import CoreSettings

PREFIX = "perpetune:test:"
HOLDINGS = f"{PREFIX}inference.door:holdings"
OPTIONS = {"global_keyprefix": PREFIX}


class Post:
    """A kombu program outside: sends requests, reads answers."""

    def __init__(self, bus_url: str) -> None:
        self.connection = Connection(bus_url, transport_options=OPTIONS)
        self.redis = Redis.from_url(bus_url)

    def send(self, body: Any, *, project: str = PROJECT, **options: Any) -> str:
        """Ask; the name of the queue where the answer will be."""
        reply_to = f"answers-{uuid.uuid4()}"
        self.publish(body, project=project, **({"reply_to": reply_to} | options))
        return reply_to

    def publish(self, body: Any, *, project: str = PROJECT, **options: Any) -> None:
        with self.connection.channel() as channel:
            Producer(channel, serializer="json").publish(
                body, routing_key=queue_of(project), **options
            )

    def put(self, raw: bytes, project: str = PROJECT) -> None:
        """What no library would send."""
        self.redis.lpush(f"{PREFIX}{queue_of(project)}", raw)

    def receive(self, reply_to: str, seconds: float = 15.0) -> Any:
        with self.connection.SimpleQueue(Queue(reply_to, Exchange(""), reply_to)) as queue:
            message = queue.get(timeout=seconds)
            message.ack()
            return message

    def ask(self, body: Any, **options: Any) -> Any:
        return self.receive(self.send(body, **options)).payload

    def held(self) -> int:
        """Messages that a door has taken and not answered."""
        keys = self.redis.keys(f"{PREFIX}inference.door:taken:*")
        return sum(self.redis.llen(key) for key in keys)

    def waiting(self, project: str = PROJECT) -> int:
        return self.redis.llen(f"{PREFIX}{queue_of(project)}")

    def unrecorded(self) -> list[bytes]:
        """Messages that nobody can answer and that are not in Postgres yet, the oldest first."""
        entries = self.redis.lrange(f"{PREFIX}inference.door:dead_letters", 0, -1)
        return [entry.partition(b"\n")[2] for entry in reversed(entries)]

    def leave_behind(self, door: str, raws: list[bytes], project: str = PROJECT) -> None:
        """What a killed door leaves: a list that it registered, and no sign of life."""
        self.redis.lpush(f"{PREFIX}inference.door:taken:{door}:{project}", *raws)
        self.redis.sadd(HOLDINGS, f"{door}:{project}")

    def close(self) -> None:
        self.connection.release()
        self.redis.close()


def celery_sender(bus_url: str) -> Celery:
    """A Celery program outside, which knows the queue's name and nothing else of ours."""
    app = Celery("outside", broker=bus_url, backend="rpc://")
    app.conf.update(broker_transport_options=OPTIONS, result_persistent=False)
    return app


@contextmanager
def queue_door(
    world: World, database: Any, bus_url: str, projects: set[str] | None = None
) -> Iterator[QueueDoor]:
    """The door in an event loop of its own; stopped in order at the end."""
    ready, doors = threading.Event(), []
    stops: list[Any] = []

    async def run() -> None:
        stop = asyncio.Event()
        stops.append((asyncio.get_running_loop(), stop))
        spine = Units(make_engine(database.spine, CoreSettings(), pool=2))
        async with AsyncRedis.from_url(bus_url, socket_timeout=10) as redis:
            door = QueueDoor(
                core=world.compose().core,
                mailbox=Mailbox(
                    redis,
                    prefix=PREFIX,
                    dead_seconds=world.settings.door_dead_seconds,
                    reply_seconds=60,
                ),
                answers=Answers(Units(make_engine(database.app, CoreSettings())), spine),
                letters=DeadLetters(spine),
                projects=lambda: projects if projects is not None else {PROJECT},
                settings=world.settings,
            )
            doors.append(door)
            ready.set()
            await door.run(stop, drain_seconds=1)

    thread = threading.Thread(target=asyncio.run, args=(run(),), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield doors[0]
    finally:
        loop, stop = stops[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        assert not thread.is_alive()


def list_letters(database: Any) -> list[Any]:
    """Rows of the dead letters of all projects, the oldest first."""
    owner = Units(make_engine(database.owner, CoreSettings(), pool=1))
    with owner.open(Context.root(Project(""), "test")) as uow:
        rows = uow.session.execute(
            text("""
                SELECT project, queue, task, reason, starts, envelope->'data' AS data
                FROM spine.dead_letters ORDER BY buried_at, id
            """)
        ).all()
    owner.engine.dispose()
    return list(rows)


def add_project(database: Any) -> None:
    """A project with a key, from which doors learn of it."""
    owner = Units(make_engine(database.owner, CoreSettings(), pool=1))
    with owner.open(Context.root(PROJECT, "test")) as uow:
        uow.session.execute(
            text("INSERT INTO gateway.projects (project) VALUES (:project)"), {"project": PROJECT}
        )
        uow.session.execute(
            text("""
                INSERT INTO gateway.keys (key_id, project, name, mac, scopes, created_by)
                VALUES ('k', :project, 'n', 'm', '{inference:write}', 'test')
            """),
            {"project": PROJECT},
        )


class DoorProcess:
    """`python -m services.inference.door`."""

    def __init__(self, world: World, database: Any, bus_url: str, **settings: str) -> None:
        with Redis.from_url(bus_url) as redis:
            self._before = redis.smembers(HOLDINGS)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "services.inference.door"],
            env=os.environ
            | {
                "PERPETUNE_HOME": str(world.folder / "home"),
                "PERPETUNE_BLOBS_URL": str(world.folder / "blobs"),
                "PERPETUNE_DATABASE_APP_URL": database.app,
                "PERPETUNE_DATABASE_SPINE_URL": database.spine,
                "PERPETUNE_BUS_URL": bus_url,
                "PERPETUNE_BROKER_PREFIX": PREFIX,
                "PERPETUNE_SERVING_URL": world.serving_url,
                "PERPETUNE_SECRET_RECEIPT_KEY": "secret",
                "PERPETUNE_INFERENCE_DOOR_DEAD_SECONDS": "1.5",
            }
            | {f"PERPETUNE_{name}": value for name, value in settings.items()},
        )

    def await_ready(self, post: Post) -> None:
        """Wait until a door that was not there before has opened a project."""
        await_true(lambda: bool(post.redis.smembers(HOLDINGS) - self._before), 30)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(20)
