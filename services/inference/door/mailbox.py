"""The queues in Redis: taking a message keeps it, until its answer is out.

kombu's own consumer pops a message before it notes it as unacknowledged, and loses it if it dies in
between. Here one command moves it to a list of this door, so it is always in one place.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.inference.door.keys import DoorKeys
from services.inference.door.succession import Succession
from shared.ids import uuid7

__all__ = ["Mailbox", "RedisError"]

# Redis answers a blocked call after this long; also how long a shutdown may have to wait.
_BLOCK_SECONDS = 1.0
# Messages with a priority lie in lists of their own (kombu.transport.redis, PRIORITY_STEPS).
_PRIORITY_SUFFIXES = ("\x06\x163", "\x06\x166", "\x06\x169")
# While Postgres is away; beyond it the oldest are dropped, for Redis is bounded.
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
        self._keys = DoorKeys(prefix)
        self._reply_seconds = reply_seconds
        self._held: defaultdict[str, Counter[bytes]] = defaultdict(Counter)
        self._door = uuid7().hex
        self.succession = Succession(
            redis,
            self._keys,
            door=self._door,
            dead_seconds=dead_seconds,
            memory_seconds=reply_seconds,
        )

    async def open(self, project: str) -> None:
        """Begin with a project; called before its first `take`."""
        await self.succession.open(project)

    async def take(self, project: str) -> bytes | None:
        """The oldest message of a project, or None when there was none for a second."""
        queue, held = self._keys.queue(project), self._taken(project)
        raw: bytes | None = await self._redis.blmove(queue, held, _BLOCK_SECONDS, "RIGHT", "LEFT")
        if raw is None:
            # Only an idle queue serves them: in kombu 0 is the highest priority.
            raw = await self._take_less_urgent(queue, held)
        if raw is not None:
            self._held[project][raw] += 1
        return raw

    async def take_suspect(self, project: str) -> bytes | None:
        """A message that is served alone, if it is its turn; `succession.acquit` ends its turn."""
        raw = await self.succession.take_suspect(project)
        if raw is not None:
            self._held[project][raw] += 1
        return raw

    async def finish(
        self, project: str, raw: bytes, *, reply_to: str | None, reply: bytes | None
    ) -> None:
        """Send the answer and forget the message, in one step."""
        async with self._redis.pipeline(transaction=True) as pipe:
            if reply_to is not None and reply is not None:
                key = self._keys.reply(reply_to)
                pipe.lpush(key, reply)
                pipe.expire(key, self._reply_seconds)
            pipe.lrem(self._taken(project), 1, raw)
            await pipe.execute()
        self._let_go(project, raw)

    async def bury(self, project: str, raw: bytes, heading: bytes) -> None:
        """Part with a message that nobody can answer: behind its heading it waits for Postgres."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.lpush(self._keys.dead, heading + raw)
            pipe.ltrim(self._keys.dead, 0, _MAX_DEAD - 1)
            pipe.lrem(self._taken(project), 1, raw)
            await pipe.execute()
        self._let_go(project, raw)

    async def oldest_dead(self) -> bytes | None:
        """The entry of the letter that has waited longest; it stays until `forget_dead`."""
        entry: bytes | None = await self._redis.lindex(self._keys.dead, -1)
        return entry

    async def forget_dead(self, entry: bytes) -> None:
        """A letter that is in Postgres; another door may have forgotten it already."""
        await self._redis.lrem(self._keys.dead, -1, entry)

    async def reclaim(self, project: str) -> None:
        """Put back what Redis gave us over a connection that broke before we got it."""
        held = self._taken(project)
        for raw in await self._redis.lrange(held, 0, -1):
            if not self._held[project][raw]:
                async with self._redis.pipeline(transaction=True) as pipe:
                    pipe.lrem(held, 1, raw)
                    pipe.rpush(self._keys.queue(project), raw)
                    await pipe.execute()

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

    def _taken(self, project: str) -> str:
        return self._keys.taken(f"{self._door}:{project}")
