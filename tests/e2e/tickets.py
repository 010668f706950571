"""Rows of a small task that a small model learns in a few steps: which desk a ticket goes to."""

from __future__ import annotations

from itertools import product
from typing import Any

_SYSTEM = "Say which desk the ticket goes to: billing, shipping or technical."
_OPENINGS = ("Hello,", "Hi,", "Good morning,", "Please help:", "Urgent:", "Dear team,")
_COMPLAINTS = {
    "billing": ("I was charged twice", "my invoice is wrong", "I want a refund"),
    "shipping": ("my parcel is late", "the package is lost", "the courier never came"),
    "technical": ("the app crashes", "the screen stays black", "the login page hangs"),
}


def tickets() -> list[dict[str, Any]]:
    """54 chats in OpenAI's format, mixed by desk."""
    return [
        {
            "messages": [
                {"role": "system", "content": _SYSTEM},
                {"role": "user", "content": f"{opening} {complaints[number]}."},
                {"role": "assistant", "content": f"This one is for the {desk} desk."},
            ]
        }
        for opening, number in product(_OPENINGS, range(3))
        for desk, complaints in _COMPLAINTS.items()
    ]
