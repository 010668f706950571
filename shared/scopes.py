"""What an API key may be allowed to do: `<noun>:read` or `<noun>:write`."""

from __future__ import annotations

SCOPES = frozenset(
    {
        "alerts:read",
        "audit:read",
        "audit:write",
        "datasets:read",
        "evaluations:read",
        "evaluations:write",
        "events:read",
        "events:write",
        "feedback:write",
        "files:read",
        "files:write",
        "inference:write",
        "jobs:read",
        "jobs:write",
        "keys:write",
        "models:read",
        "models:write",
        "releases:read",
        "releases:write",
        "workloads:read",
        "workloads:write",
    }
)
