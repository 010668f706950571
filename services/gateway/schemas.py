"""HTTP shapes of API keys."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from annotated_types import Ge, Le
from pydantic import BaseModel, ConfigDict, Field

from services.gateway.repository import KeyRow
from shared.idempotency import ShownOnce


class CreateKey(BaseModel):
    """Asks for a key; the answer is the only place it is ever shown."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=100)
    scopes: list[str] = Field(max_length=100)
    expires_in_days: Annotated[int, Ge(1), Le(3650)] | None = Field(
        default=90, description="Null makes a key that does not expire."
    )


class Key(BaseModel):
    """A key without its secret. Times are Unix seconds."""

    id: str
    object: Literal["api_key"] = "api_key"
    name: str
    scopes: list[str]
    created_by: str
    created_at: int
    expires_at: int | None
    revoked_at: int | None

    @classmethod
    def of(cls, row: KeyRow) -> Self:
        return cls(
            id=row.key_id,
            name=row.name,
            scopes=row.scopes,
            created_by=row.created_by,
            created_at=int(row.created_at.timestamp()),
            expires_at=int(row.expires_at.timestamp()) if row.expires_at else None,
            revoked_at=int(row.revoked_at.timestamp()) if row.revoked_at else None,
        )


class CreatedKey(Key):
    """The new key; `key` is shown this once, and null in the answer to a repetition."""

    key: Annotated[str | None, ShownOnce()]
