"""Routes and models, as every door has them in memory."""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import text

from services.inference.domain.routing import Name, Route, Served
from shared.ids import Digest, Project

ROUTES_QUERY = text("""
    SELECT project, workload_id, name, aliases, live_release, live_model, canary_release,
           canary_model, canary_share, salt, fallback_model, capture_content
    FROM releases.routes_v1
""")
# A project's own models, and those that others let it use.
MODELS_QUERY = text("""
    SELECT project, project AS owner, model_id, base, gguf_digest, peft_digest
    FROM releases.models_v1 WHERE deleted_at IS NULL
    UNION ALL
    SELECT project, owner, model_id, base, gguf_digest, peft_digest
    FROM releases.granted_models_v1
""")


def routes_from_rows(rows: list[tuple[object, ...]]) -> dict[Name, Route]:
    """The routes snapshot from the rows of ROUTES_QUERY; a name wins over another's alias."""
    by_alias: dict[Name, Route] = {}
    by_name: dict[Name, Route] = {}
    for row in cast("list[tuple[Any, ...]]", rows):
        project, workload_id, name, aliases, *rest = row
        live_release, live_model, canary_release, canary_model, share, salt, *last = rest
        fallback_model, capture_content = last
        route = Route(
            workload_id=workload_id,
            live_release=live_release,
            live_model=live_model,
            canary_release=canary_release,
            canary_model=canary_model,
            canary_share=share or 0.0,
            salt=salt or "",
            fallback_model=fallback_model,
            capture_content=capture_content,
        )
        by_name[Project(project), name] = route
        by_alias.update({(Project(project), alias): route for alias in aliases})
    return by_alias | by_name


def models_from_rows(rows: list[tuple[object, ...]]) -> dict[Name, Served]:
    """The models snapshot from the rows of MODELS_QUERY."""
    return {
        (Project(project), model): Served(
            project=Project(owner),
            model=model,
            base=base,
            gguf_digest=Digest(gguf) if gguf else None,
            peft_digest=Digest(peft) if peft else None,
        )
        for project, owner, model, base, gguf, peft in cast("list[tuple[Any, ...]]", rows)
    }
