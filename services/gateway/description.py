"""The OpenAPI description, made true: our errors, our security, no answers we never give."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from services.gateway.doorkeeper import GUARDED

_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_FAILED = {
    "description": "An error; `code` says which, `message` what to do.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
}


def describe(app: FastAPI) -> dict[str, Any]:
    """The description of all routes of *app*."""
    description = get_openapi(title=app.title, version=app.version, routes=app.routes)
    components = description.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    # The framework announces its own 422; we answer 400 in OpenAI's shape.
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    schemas["Error"] = _ERROR
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, operations in description["paths"].items():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = _FAILED
            if path.startswith(GUARDED):
                operation["security"] = [{"key": []}]
    return description
