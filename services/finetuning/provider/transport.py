"""
HTTP to a provider with limits on the whole answer.

The client's own time-out begins anew with every byte; here the read time-out of a request is for
all of its answer, however it trickles.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx2

# Result files are the largest answers: a line of a hundred bytes a step.
MAX_ANSWER_BYTES = 16 << 20
# A shorter one guards nothing, and may be a word of any answer: `EMPTY`, `none`.
_LEAST_SECRET_BYTES = 12


def make_http() -> httpx2.Client:
    """A pooled client that follows no redirect and uses no proxy of the environment."""
    return httpx2.Client(transport=BoundedTransport(), follow_redirects=False, trust_env=False)


class BoundedTransport(httpx2.HTTPTransport):
    """Ends answers that are too long, in time or in bytes."""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """
        Raises:
            httpx2.ReadTimeout: The answer was not there in time.
            httpx2.DecodingError: It is packed, though nobody asked for that, or too large.
        """
        # What is packed may be a thousand times as large as it looks.
        request.headers["accept-encoding"] = "identity"
        ends_at = time.monotonic() + request.extensions["timeout"]["read"]
        answer = super().handle_request(request)
        packed = answer.headers.get("content-encoding", "identity")
        assert isinstance(answer.stream, httpx2.SyncByteStream), "it was asked for by one thread"
        if packed != "identity":
            answer.close()
            raise httpx2.DecodingError(f"packed as {packed[:20]!r}", request=request)
        answer.stream = httpx2.ByteStream(_read(_Bounded(answer.stream, request, ends_at), request))
        # JSON is UTF-8; the name of another code may be one that makes no text.
        answer.headers["content-type"] = "application/json"
        return answer


def _read(stream: _Bounded, request: httpx2.Request) -> bytes:
    """All of an answer, without the key of its request, should the provider quote it."""
    try:
        content = b"".join(stream)
    finally:
        stream.close()
    key = request.headers.get("authorization", "").removeprefix("Bearer ").encode()
    return content.replace(key, b"***") if len(key) >= _LEAST_SECRET_BYTES else content


class _Bounded(httpx2.SyncByteStream):
    def __init__(
        self, stream: httpx2.SyncByteStream, request: httpx2.Request, ends_at: float
    ) -> None:
        self._stream = stream
        self._request = request
        self._ends_at = ends_at

    def __iter__(self) -> Iterator[bytes]:
        read = 0
        for chunk in self._stream:
            read += len(chunk)
            if read > MAX_ANSWER_BYTES:
                raise httpx2.DecodingError("too large", request=self._request)
            if time.monotonic() > self._ends_at:
                raise httpx2.ReadTimeout("not whole in time", request=self._request)
            yield chunk

    def close(self) -> None:
        self._stream.close()
