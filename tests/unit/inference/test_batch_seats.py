"""Seats at the models: equal for projects in time, and none is lost."""

from __future__ import annotations

import asyncio
from collections import Counter

from services.inference.batches.seats import Seats
from shared.ids import Project

A, B, C = (Project(name) for name in "abc")


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Room:
    """Projects that sit until they are told to leave."""

    def __init__(self, count: int) -> None:
        self.seats = Seats(count)
        self.sitting: list[tuple[Project, asyncio.Event]] = []

    async def _sit(self, project: Project) -> None:
        async with self.seats.taken(project):
            mine = (project, asyncio.Event())
            self.sitting.append(mine)
            try:
                await mine[1].wait()
            finally:
                self.sitting.remove(mine)

    async def enter(self, project: Project, count: int) -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(self._sit(project)) for _ in range(count)]
        await settle()
        return tasks

    async def leave(self, project: Project) -> None:
        next(told for sitter, told in self.sitting if sitter == project).set()
        await settle()

    @property
    def held(self) -> Counter[Project]:
        return Counter(project for project, _ in self.sitting)


def test_a_project_that_is_alone_has_all_seats():
    async def story() -> None:
        room = Room(4)
        await room.enter(A, 9)
        assert room.held == {A: 4}

    asyncio.run(story())


def test_a_slow_project_does_not_hold_the_seats_of_a_quick_one():
    async def story() -> None:
        room = Room(4)
        await room.enter(A, 20)
        await room.enter(B, 20)
        await room.leave(A)
        assert room.held == {A: 3, B: 1}
        # However often the quick one ends, its seat is its own; and it gets its half.
        for _ in range(10):
            await room.leave(B)
            assert room.held == {A: 3, B: 1}
        await room.leave(A)
        assert room.held == {A: 2, B: 2}
        await room.leave(A)
        assert room.held == {A: 2, B: 2}

    asyncio.run(story())


def test_more_projects_than_seats_take_turns():
    async def story() -> None:
        room = Room(1)
        order = []
        for project in (A, B, C):
            await room.enter(project, 3)
        for _ in range(6):
            ((project, _told),) = room.sitting
            order.append(project)
            await room.leave(project)
        assert order == [A, A, B, C, A, B]

    asyncio.run(story())


def test_whoever_gives_up_takes_no_seat_along():
    async def story() -> None:
        room = Room(1)
        (first,) = await room.enter(A, 1)
        waiting = await room.enter(A, 2)
        (other,) = await room.enter(B, 1)
        for task in waiting:
            task.cancel()
        # The seat is given in the same moment in which its receiver gives up.
        first.cancel()
        await asyncio.sleep(0)
        other.cancel()
        await settle()
        assert not room.sitting
        await room.enter(C, 1)
        assert room.held == {C: 1}

    asyncio.run(story())
