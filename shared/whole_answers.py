"""Asking over HTTP with a limit on the whole answer, in a thread of its own."""

from __future__ import annotations

import time
from typing import Any

import httpx2


def ask_within(
    http: httpx2.Client, method: str, url: str, *, body: dict[str, Any] | None, seconds: float
) -> httpx2.Response:
    """
    A whole answer. The client's own time-out begins anew with every byte, so that one which drips
    would never end; this one ends at the first byte after *seconds*.

    Raises:
        httpx2.TimeoutException: It was not there in time.
        httpx2.HTTPError: There is none.
    """
    ends_at = time.monotonic() + seconds
    content = bytearray()
    with http.stream(method, url, json=body, timeout=seconds) as answer:
        for chunk in answer.iter_raw():
            content += chunk
            if time.monotonic() > ends_at:
                raise httpx2.ReadTimeout(f"not whole after {seconds:.1f} s", request=answer.request)
        return httpx2.Response(
            answer.status_code,
            headers=answer.headers,
            content=bytes(content),
            request=answer.request,
        )
