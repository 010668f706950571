"""Stored chats in OpenAI's shapes."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict

from services.inference.domain.stored import write_id
from services.inference.repository.stored import StoredRow


class UpdateCompletion(BaseModel):
    """Body of `POST /v1/chat/completions/{id}`; null takes all metadata away."""

    model_config = ConfigDict(strict=True, extra="forbid")

    metadata: dict[str, str] | None


class CompletionObject(BaseModel):
    """A `chat.completion` as it was answered, with the metadata attached to it now."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[dict[str, Any]]
    usage: dict[str, Any]
    system_fingerprint: str | None
    metadata: dict[str, str] | None

    @classmethod
    def of(cls, row: StoredRow) -> Self:
        return cls.model_validate(
            row.completion | {"id": write_id(row.request), "metadata": row.metadata}
        )


class StoredMessage(BaseModel):
    """
    A message of the request: in `content` where it was a text, in `content_parts` where it came
    in parts. OpenAI's client types `role` as `assistant` alone; ours is the role it had.
    """

    model_config = ConfigDict(extra="allow")

    id: str
    role: str
    content: str | None
    content_parts: list[dict[str, Any]] | None
    name: str | None
    refusal: str | None


class CompletionDeleted(BaseModel):
    """OpenAI's answer to a deletion."""

    id: str
    object: Literal["chat.completion.deleted"] = "chat.completion.deleted"
    deleted: Literal[True] = True
