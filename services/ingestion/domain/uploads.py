"""Decisions about uploads in parts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Self

from shared.errors import Invalid, TooLarge


class UploadState(StrEnum):
    """As OpenAI names them."""

    PENDING = "pending"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @classmethod
    def of(cls, stored: str, expires_at: datetime, now: datetime) -> Self:
        """What is pending after its time has expired."""
        is_late = stored == cls.PENDING and now >= expires_at
        return cls(cls.EXPIRED if is_late else stored)


def require_pending(upload_id: str, state: UploadState) -> None:
    """
    Raises:
        Invalid: Nothing can be added to the upload, and it cannot be ended any more.
    """
    if state is not UploadState.PENDING:
        raise Invalid(
            f"Upload '{upload_id}' is {state}; begin another one.",
            code=f"upload_{state}",
            param="upload_id",
        )


def require_room(
    promised_bytes: int, arrived_bytes: int, part_bytes: int, *, spare_bytes: int
) -> None:
    """
    Whether one more part may be kept.

    Args:
        promised_bytes: Of the whole.
        arrived_bytes: Of all parts so far.
        part_bytes: Of this one.
        spare_bytes: So much more may come, because a part may be sent again.

    Raises:
        TooLarge: The parts would be more than that together.
    """
    if arrived_bytes + part_bytes > promised_bytes + spare_bytes:
        raise TooLarge(
            f"The upload was begun for {promised_bytes} bytes and has {arrived_bytes} already.",
            code="upload_too_large",
            param="data",
        )


def require_parts(wanted: Sequence[str], sizes: Mapping[str, int], promised_bytes: int) -> None:
    """
    Whether the parts make the file that was promised.

    Args:
        wanted: Ids of parts, in order.
        sizes: Bytes of each part that arrived, by id.
        promised_bytes: Of the whole.

    Raises:
        Invalid: A part is unknown or named twice, or the sizes do not add up.
    """
    if unknown := _first_not_in(sizes, wanted):
        raise Invalid(
            f"The upload has no part '{unknown}'.", code="part_not_found", param="part_ids"
        )
    if len(set(wanted)) != len(wanted):
        raise Invalid("A part is named twice.", code="part_named_twice", param="part_ids")
    arrived = sum(sizes[part] for part in wanted)
    if arrived != promised_bytes:
        raise Invalid(
            f"The parts have {arrived} bytes and the upload was begun for {promised_bytes}; name "
            "all parts, or begin another upload.",
            code="wrong_size",
            param="part_ids",
        )


def require_digest(wanted: str | None, found: str) -> None:
    """
    Raises:
        Invalid: The MD5 is another one, so something was changed on its way.
    """
    if wanted is not None and wanted.lower() != found:
        raise Invalid(
            f"The parts have the MD5 {found}, not {wanted}; send what is wrong again.",
            code="wrong_md5",
            param="md5",
        )


def _first_not_in(known: Collection[str], wanted: Sequence[str]) -> str | None:
    return next((part for part in wanted if part not in known), None)
