from __future__ import annotations

import asyncio

from services.serving.on_demand import OnDemand


class _Sleeper:
    """A real process, the smallest one."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls) -> _Sleeper:
        return cls(await asyncio.create_subprocess_exec("sleep", "60"))

    @property
    def is_alive(self) -> bool:
        return self.process.returncode is None

    async def stop(self) -> None:
        if self.is_alive:
            self.process.kill()
        await self.process.wait()


def test_uses_at_once_share_one_process():
    async def scenario() -> None:
        part = OnDemand(_Sleeper.start, idle_seconds=60)

        async def pid() -> int:
            async with part.use() as sleeper:
                return sleeper.process.pid

        assert len(set(await asyncio.gather(*(pid() for _ in range(5))))) == 1
        await part.close()

    asyncio.run(scenario())


def test_unused_process_is_stopped_and_the_next_use_starts_another():
    async def scenario() -> None:
        part = OnDemand(_Sleeper.start, idle_seconds=0.05)
        async with part.use() as first:
            await asyncio.sleep(0.2)
            assert first.is_alive, "stopped while in use"
        await asyncio.wait_for(first.process.wait(), 5)
        async with part.use() as second:
            assert second.process.pid != first.process.pid
        await part.close()
        assert not second.is_alive

    asyncio.run(scenario())


def test_process_that_died_is_replaced():
    async def scenario() -> None:
        part = OnDemand(_Sleeper.start, idle_seconds=60)
        async with part.use() as first:
            first.process.kill()
            await first.process.wait()
        async with part.use() as second:
            assert second.is_alive
        await part.close()

    asyncio.run(scenario())
