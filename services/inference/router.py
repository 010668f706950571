"""Routing on the snapshots of this process."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol, TypeVar

from services.inference.domain.routing import Name, Route, Served, Tables, Target
from shared.errors import Missing
from shared.ids import Project
from shared.rendering.bases import find_base

T_co = TypeVar("T_co", covariant=True)


class Copy(Protocol[T_co]):
    """A value in memory that can be read anew; `shared.snapshots.Snapshot` is one."""

    @property
    def value(self) -> T_co: ...

    def refresh_soon(self) -> None: ...


class Router:
    """Finds who answers a request, without any I/O for names that are known."""

    def __init__(
        self, routes: Copy[Mapping[Name, Route]], models: Copy[Mapping[Name, Served]]
    ) -> None:
        self._routes = routes
        self._models = models

    async def target(self, project: Project, name: str, unit: str) -> Target:
        """
        The target of a request.

        Raises:
            Missing: Nothing of this name can answer for the project.
        """
        found = self._tables().resolve(project, name, unit)
        if found is None:
            # It may have been made a moment ago; the snapshots bound how often this asks.
            await asyncio.to_thread(self._refresh)
            found = self._tables().resolve(project, name, unit)
        if found is None:
            raise Missing(
                f"The model '{name}' does not exist in this project. Use the name of a workload "
                "with a live release, a fine-tuned model of GET /v1/models, or a base.",
                code="model_not_found",
                param="model",
            )
        return found

    def _tables(self) -> Tables:
        return Tables(self._routes.value, self._models.value, lambda name: bool(find_base(name)))

    def _refresh(self) -> None:
        self._routes.refresh_soon()
        self._models.refresh_soon()
