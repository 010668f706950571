"""Finds the rooms that have a public face, in the order of their names."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from contextlib import AsyncExitStack
from types import ModuleType

from fastapi import FastAPI

import services


def find_rooms() -> list[ModuleType]:
    """
    `services.<room>.api` of every room whose routes are public.

    One without a `router` speaks to our own processes only and is served by its own.
    """
    names = sorted(room.name for room in pkgutil.iter_modules(services.__path__) if room.ispkg)
    faces = [
        importlib.import_module(f"services.{name}.api")
        for name in names
        if importlib.util.find_spec(f"services.{name}.api") is not None
    ]
    return [face for face in faces if hasattr(face, "router")]


async def enter_lifespans(stack: AsyncExitStack, app: FastAPI, rooms: list[ModuleType]) -> None:
    """Enter `lifespan(app)` of every room that defines one; left in reverse order."""
    for room in rooms:
        lifespan = getattr(room, "lifespan", None)
        if lifespan is not None:
            await stack.enter_async_context(lifespan(app))
