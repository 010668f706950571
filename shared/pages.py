"""Pages of a list in OpenAI's form: keyset cursors, newest first unless said otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Literal, TypeVar

from pydantic import BaseModel

T = TypeVar("T", bound=BaseModel)


class Page(BaseModel, Generic[T]):
    """One page. The next one is asked for with `after=<last_id>`."""

    object: Literal["list"] = "list"
    data: list[T]
    has_more: bool
    first_id: str | None = None
    last_id: str | None = None


def page_of(rows: Sequence[T], limit: int) -> Page[T]:
    """
    The first *limit* of *rows*; the query asked for one row more to know whether more follow.

    Args:
        rows: At most `limit + 1` items that have an `id`.
        limit: Page size asked for.
    """
    shown = list(rows[:limit])
    ids = [str(getattr(row, "id", "")) for row in shown]
    return Page(
        data=shown,
        has_more=len(rows) > limit,
        first_id=ids[0] if ids else None,
        last_id=ids[-1] if ids else None,
    )
