"""The queues in Redis: taking a message keeps it, until its answer is out.

kombu's own consumer pops a message before it notes it as unacknowledged, and loses it if it dies in
between. Here one command moves it to a list of this door, so it is always in one place. A door that
is not heard of any more is dead: another one puts its messages back.
"""

from __future__ import annotations

import hashlib
from collections import Counter

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.inference.door.messages import queue_of
from shared.ids import uuid7
from shared.logging import get_logger

__all__ = ["Mailbox", "RedisError"]

_log = get_logger(__name__)
# Redis answers a blocked call after this long; also how long a shutdown may have to wait.
_BLOCK_SECONDS = 1.0
# Messages with a priority lie in lists of their own (kombu.transport.redis, PRIORITY_STEPS).
_PRIORITY_SUFFIXES = ("\x06\x163", "\x06\x166", "\x06\x169")
# A message that was in the hands of so many doors when they died has probably killed them.
_MAX_RESTORED = 3
_MAX_DEAD = 1_000


class Mailbox:
    """One door's view of all queues."""

    def __init__(
        self, redis: Redis, *, prefix: str, dead_seconds: float, reply_seconds: int
    ) -> None:
        """
        Args:
            redis: The bus.
            prefix: Before every key, as in the senders' `global_keyprefix`.
            dead_seconds: Silence after which a door is dead.
            reply_seconds: How long a reply waits for its reader.
        """
        self._redis = redis
        self._prefix = prefix
        self._own = f"{prefix}inference.door:"
        self._dead_milliseconds = round(dead_seconds * 1000)
        self._reply_seconds = reply_seconds
        self._held: dict[str, Counter[bytes]] = {}
        self.door = uuid7().hex

    async def beat(self) -> None:
        """Say that this door is alive."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.sadd(f"{self._own}doors", self.door)
            pipe.set(f"{self._own}alive:{self.door}", 1, px=self._dead_milliseconds)
            await pipe.execute()

    async def open(self, project: str) -> None:
        """Begin with a project; called before its first `take`."""
        self._held.setdefault(project, Counter())
        await self._redis.sadd(f"{self._own}projects:{self.door}", project)

    async def take(self, project: str) -> bytes | None:
        """The oldest message of a project, or None when there was none for a second."""
        queue, held = self._queue(project), self._taken(self.door, project)
        raw: bytes | None = await self._redis.blmove(queue, held, _BLOCK_SECONDS, "RIGHT", "LEFT")
        if raw is None:
            # Only an idle queue serves them: in kombu 0 is the highest priority.
            raw = await self._take_less_urgent(queue, held)
        if raw is not None:
            self._held[project][raw] += 1
        return raw

    async def finish(
        self, project: str, raw: bytes, *, reply_to: str | None, reply: bytes | None
    ) -> None:
        """Send the answer and forget the message, in one step."""
        async with self._redis.pipeline(transaction=True) as pipe:
            if reply_to is not None and reply is not None:
                key = f"{self._prefix}{reply_to}"
                pipe.lpush(key, reply)
                pipe.expire(key, self._reply_seconds)
            pipe.lrem(self._taken(self.door, project), 1, raw)
            await pipe.execute()
        self._let_go(project, raw)

    async def bury(self, project: str, raw: bytes) -> None:
        """Keep a message that nobody can answer where a person can look at it."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.lpush(f"{self._own}dead", raw)
            pipe.ltrim(f"{self._own}dead", 0, _MAX_DEAD - 1)
            pipe.lrem(self._taken(self.door, project), 1, raw)
            await pipe.execute()
        self._let_go(project, raw)

    async def reclaim(self, project: str) -> None:
        """Put back what Redis gave us over a connection that broke before we got it."""
        held = self._taken(self.door, project)
        for raw in await self._redis.lrange(held, 0, -1):
            if not self._held[project][raw]:
                async with self._redis.pipeline(transaction=True) as pipe:
                    pipe.lrem(held, 1, raw)
                    pipe.rpush(self._queue(project), raw)
                    await pipe.execute()

    async def leave(self) -> None:
        """Put back all this door still holds, and be forgotten."""
        await self._restore(self.door, counts=False)

    async def restore_dead(self) -> None:
        """Put back what doors held that are not heard of any more."""
        for name in await self._redis.smembers(f"{self._own}doors"):
            door = name.decode()
            if door == self.door or await self._redis.exists(f"{self._own}alive:{door}"):
                continue
            lock = f"{self._own}restoring:{door}"
            if await self._redis.set(lock, 1, nx=True, px=self._dead_milliseconds):
                await self._restore(door, counts=True)

    async def _restore(self, door: str, *, counts: bool) -> None:
        for name in await self._redis.smembers(f"{self._own}projects:{door}"):
            project = name.decode()
            held, queue = self._taken(door, project), self._queue(project)
            # From the newest to the oldest, so that the oldest is the next to be taken.
            while (raw := await self._redis.lindex(held, 0)) is not None:
                is_deadly = counts and await self._restored(raw) > _MAX_RESTORED
                if is_deadly:
                    await self._redis.lmove(held, f"{self._own}dead", "LEFT", "LEFT")
                else:
                    await self._redis.lmove(held, queue, "LEFT", "RIGHT")
                _log.warning("door_message_restored", project=project, dead=is_deadly, door=door)
        await self._redis.delete(f"{self._own}projects:{door}", f"{self._own}alive:{door}")
        await self._redis.srem(f"{self._own}doors", door)

    async def _restored(self, raw: bytes) -> int:
        key = f"{self._own}restored:{hashlib.sha256(raw).hexdigest()}"
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.incr(key)
            pipe.expire(key, self._reply_seconds)
            count, _ = await pipe.execute()
        return int(count)

    async def _take_less_urgent(self, queue: str, held: str) -> bytes | None:
        for suffix in _PRIORITY_SUFFIXES:
            raw: bytes | None = await self._redis.lmove(queue + suffix, held, "RIGHT", "LEFT")
            if raw is not None:
                return raw
        return None

    def _let_go(self, project: str, raw: bytes) -> None:
        self._held[project][raw] -= 1
        if not self._held[project][raw]:
            del self._held[project][raw]

    def _queue(self, project: str) -> str:
        return f"{self._prefix}{queue_of(project)}"

    def _taken(self, door: str, project: str) -> str:
        return f"{self._own}taken:{door}:{project}"
