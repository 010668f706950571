"""What a door holds passes to the others when it is not heard of any more.

A list of taken messages is never forgotten while something lies in it, whatever became of its
door: frozen and woken up again, wiped from the bus, killed before its first beat.

A message that kills doors must not be served for ever, and the healthy ones that were in hand
beside it must not be blamed. So a message that was put back too often becomes a suspect; suspects
are served one at a time over all doors, and only the one being tried when a door dies counts.
"""

from __future__ import annotations

from redis.asyncio import Redis

from services.inference.door.dead_letters import heading
from services.inference.door.keys import DoorKeys
from shared.logging import get_logger

_log = get_logger(__name__)
# So often a message goes back to its queue; then it is tried alone.
_TRUSTED = 2
# Doors that a suspect may cost while it is tried.
_CONVICTIONS = 3
_DEADLY = f"{_CONVICTIONS} doors died while they tried it alone, and others before."

_RESTORE = """
local taken, queue, suspects, dead, tried = unpack(KEYS)
local door, restored, convicted, trusted, convictions, ttl, heading = unpack(ARGV)
local function count(key)
  local times = redis.call('INCR', key)
  redis.call('EXPIRE', key, ttl)
  return times
end
local message = redis.call('LINDEX', taken, 0)
if not message then
  return false
end
local digest = redis.sha1hex(message)
local now_tried = redis.call('HMGET', tried, 'door', 'message')
if now_tried[1] == door and now_tried[2] == message then
  redis.call('DEL', tried)
  if count(convicted .. digest) >= tonumber(convictions) then
    redis.call('LPUSH', dead, heading .. redis.call('LPOP', taken))
    return 'dead'
  end
end
if count(restored .. digest) > tonumber(trusted) then
  redis.call('LMOVE', taken, suspects, 'LEFT', 'LEFT')
  return 'suspects'
end
redis.call('LMOVE', taken, queue, 'LEFT', 'RIGHT')
return 'queue'
"""

_FORGET = """
local taken, alive, holdings, tried = unpack(KEYS)
local holding, door = unpack(ARGV)
if redis.call('EXISTS', alive, taken) == 0 then
  redis.call('SREM', holdings, holding)
  if redis.call('HGET', tried, 'door') == door then
    redis.call('DEL', tried)
  end
end
"""

_TAKE_SUSPECT = """
local suspects, taken, tried = unpack(KEYS)
local door, ttl = unpack(ARGV)
local other = redis.call('HGET', tried, 'door')
if other and other ~= door then
  return false
end
local message = redis.call('LMOVE', suspects, taken, 'RIGHT', 'LEFT')
if message then
  redis.call('HSET', tried, 'door', door, 'message', message)
  redis.call('EXPIRE', tried, ttl)
end
return message
"""

_ACQUIT = """
if redis.call('HGET', KEYS[1], 'door') == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
"""


class Succession:
    """One door's part in it: it beats, it inherits, it leaves."""

    def __init__(
        self, redis: Redis, keys: DoorKeys, *, door: str, dead_seconds: float, memory_seconds: int
    ) -> None:
        """
        Args:
            redis: The bus.
            keys: Names.
            door: This door.
            dead_seconds: Silence after which a door is dead.
            memory_seconds: How long it is remembered that a message was put back.
        """
        self._redis = redis
        self._keys = keys
        self._door = door
        self._dead_milliseconds = round(dead_seconds * 1000)
        self._memory_seconds = memory_seconds
        self._projects: set[str] = set()
        self._restore = redis.register_script(_RESTORE)
        self._forget = redis.register_script(_FORGET)
        self._take_suspect = redis.register_script(_TAKE_SUSPECT)
        self._acquit = redis.register_script(_ACQUIT)

    async def open(self, project: str) -> None:
        """Let the others know that this door takes messages of a project."""
        self._projects.add(project)
        await self.beat()

    async def beat(self) -> None:
        """Say that this door is alive and what it holds; all of it, for it may be forgotten."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(self._keys.alive(self._door), 1, px=self._dead_milliseconds)
            for project in self._projects:
                pipe.sadd(self._keys.holdings, f"{self._door}:{project}")
            await pipe.execute()

    async def find_lost(self) -> None:
        """Note lists whose door died before anybody had heard of it."""
        pattern = self._keys.taken("*")
        async for name in self._redis.scan_iter(match=pattern, count=1000):
            await self._redis.sadd(self._keys.holdings, self._keys.holding(name.decode()))

    async def inherit(self) -> None:
        """Put back what doors held that are not heard of any more."""
        for name in await self._redis.smembers(self._keys.holdings):
            holding = name.decode()
            door, _, project = holding.partition(":")
            if door != self._door and not await self._redis.exists(self._keys.alive(door)):
                while place := await self._put_back(holding):
                    _log.warning("door_message_restored", project=project, door=door, to=place)
                await self._forgotten(holding)

    async def take_suspect(self, project: str) -> bytes | None:
        """A suspect to be served now, if no other one is; `acquit` it afterwards."""
        keys = self._keys
        taken = keys.taken(f"{self._door}:{project}")
        message: bytes | None = await self._take_suspect(
            keys=[keys.suspects(project), taken, keys.tried],
            args=[self._door, self._memory_seconds],
        )
        return message

    async def acquit(self) -> None:
        """The suspect this door tried has been served."""
        await self._acquit(keys=[self._keys.tried], args=[self._door])

    async def leave(self) -> None:
        """Put back all this door holds, and be forgotten."""
        for project in self._projects:
            taken = self._keys.taken(f"{self._door}:{project}")
            # From the newest to the oldest, so that the oldest is the next to be taken.
            while await self._redis.lmove(taken, self._keys.queue(project), "LEFT", "RIGHT"):
                pass
        await self._redis.delete(self._keys.alive(self._door))
        for project in self._projects:
            await self._forgotten(f"{self._door}:{project}")

    async def _put_back(self, holding: str) -> str | None:
        keys = self._keys
        door, _, project = holding.partition(":")
        place: bytes | None = await self._restore(
            keys=[
                keys.taken(holding),
                keys.queue(project),
                keys.suspects(project),
                keys.dead,
                keys.tried,
            ],
            args=[
                door,
                keys.restored,
                keys.convicted,
                _TRUSTED,
                _CONVICTIONS,
                self._memory_seconds,
                heading(project, _DEADLY, _TRUSTED + 1 + _CONVICTIONS),
            ],
        )
        return None if place is None else place.decode()

    async def _forgotten(self, holding: str) -> None:
        keys = self._keys
        door = holding.partition(":")[0]
        await self._forget(
            keys=[keys.taken(holding), keys.alive(door), keys.holdings, keys.tried],
            args=[holding, door],
        )
