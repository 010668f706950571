"""Who answers: from the name in a request to a model, the release it belongs to and its arm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from shared import assignment
from shared.ids import Digest, Project

Arm = Literal["live", "canary", "none"]
Name = tuple[Project, str]


@dataclass(frozen=True, slots=True)
class Served:
    """
    A model that can answer.

    Attributes:
        project: Owner of the adapter; of the caller for a base.
        model: Its id.
        base: Name of the base it runs on.
        gguf_digest: The adapter as llama.cpp loads it; None for a base.
        peft_digest: The adapter as torch loads it; None for a base.
    """

    project: Project
    model: str
    base: str
    gguf_digest: Digest | None = None
    peft_digest: Digest | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """A workload with a live release, as the routes snapshot has it."""

    workload_id: str
    live_release: str
    live_model: str
    canary_release: str | None
    canary_model: str | None
    canary_share: float
    salt: str
    fallback_model: str | None
    capture_content: bool


@dataclass(frozen=True, slots=True)
class Target:
    """
    What a request was assigned to.

    Attributes:
        served: The model that shall answer.
        fallback: The model that answers when that one is overloaded.
        release_id: The release it was assigned to, whoever answers in the end.
    """

    served: Served
    fallback: Served | None
    workload_id: str | None
    release_id: str | None
    arm: Arm
    capture_content: bool


@dataclass(frozen=True, slots=True)
class Tables:
    """Everything routing knows, in memory."""

    routes: Mapping[Name, Route]
    models: Mapping[Name, Served]
    has_base: Callable[[str], bool]

    def resolve(self, project: Project, name: str, unit: str) -> Target | None:
        """
        The target of a request, or None when nothing of this name can answer.

        A workload's name or alias wins over the id of a model, so that an old id can become an
        alias; an id that no workload claims is pinned.
        """
        route = self.routes.get((project, name))
        if route is not None:
            return self._assigned(project, route, unit)
        served = self.find(project, name)
        return None if served is None else Target(served, None, None, None, "none", False)

    def find(self, project: Project, model: str) -> Served | None:
        """The model of this id, tuned or base."""
        tuned = self.models.get((project, model))
        if tuned is not None:
            return tuned
        return Served(project, model, model) if self.has_base(model) else None

    def _assigned(self, project: Project, route: Route, unit: str) -> Target | None:
        arm = _arm(route, unit)
        live = self.find(project, route.live_model)
        canary = self.find(project, route.canary_model) if route.canary_model else None
        # A canary whose model is not known here yet is not worth a failed request.
        is_canary = arm == "canary" and canary is not None
        served = canary if is_canary else live
        if served is None:
            return None
        chosen = self.find(project, route.fallback_model) if route.fallback_model else None
        fallback = chosen or (live if is_canary else None)
        return Target(
            served=served,
            fallback=None if fallback == served else fallback,
            workload_id=route.workload_id,
            release_id=route.canary_release if is_canary else route.live_release,
            arm="canary" if is_canary else "live",
            capture_content=route.capture_content,
        )


def _arm(route: Route, unit: str) -> Arm:
    if route.canary_release is None or route.canary_model is None:
        return "live"
    bucket = assignment.bucket(route.salt, unit)
    is_canary = assignment.arm(bucket, route.canary_share) is assignment.Arm.CANARY
    return "canary" if is_canary else "live"


def choose_unit(
    safety_identifier: str | None, user: str | None, header: str | None, request_id: str
) -> str:
    """What is kept on one side of a canary: the end user where known, else the request."""
    return safety_identifier or user or header or request_id
