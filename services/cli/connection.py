"""The way to the API: address, key, and a client for each kind of noun."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any
from urllib.parse import quote

import httpx2
import openai

from infra.local.home import Home
from infra.local.settings import LocalSettings
from services.cli.errors import CommandFailed, refusal
from services.cli.settings import CliSettings

Json = dict[str, Any]

_PAGE = 100


class Connection:
    """The API as one caller sees it: OpenAI's nouns by OpenAI's client, ours by plain HTTP."""

    def __init__(self, url: str | None = None, key: str | None = None) -> None:
        """
        Args:
            url: Address of the gateway; by default PERPETUNE_URL, then the local stack's.
            key: API key; by default PERPETUNE_API_KEY, then the local stack's first key.
        """
        self._settings = CliSettings()
        self.local = LocalSettings()
        self.url = (url or self._settings.url or self.local.gateway_url).rstrip("/")
        self._key = key

    @property
    def is_local(self) -> bool:
        """Whether the address is the local stack's."""
        return self.url == self.local.gateway_url

    @property
    def seconds(self) -> float:
        """Longest wait for an answer."""
        return self._settings.request_timeout_seconds

    @cached_property
    def key(self) -> str:
        """
        Raises:
            CommandFailed: There is none.
        """
        if self._key:
            return self._key
        if self._settings.api_key:
            return self._settings.api_key.get_secret_value()
        file = Home.at(self.local.home).secrets / "api_key"
        if not file.is_file():
            raise CommandFailed(
                f"There is no API key: {file} does not exist. Start the local stack with "
                "'perpetune up', which makes one, or give yours with --key or PERPETUNE_API_KEY."
            )
        return file.read_text(encoding="utf-8").strip()

    @cached_property
    def openai(self) -> openai.OpenAI:
        """The unmodified client, for files, jobs and answers."""
        return openai.OpenAI(
            base_url=f"{self.url}/v1",
            api_key=self.key,
            timeout=self.seconds,
        )

    @cached_property
    def _http(self) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, timeout=self.seconds)

    def get(self, *parts: str, **query: Any) -> Json:  # noqa: ANN401 - values of a query string
        """
        One GET on our nouns.

        Args:
            parts: Of the path below /api/v1; they are escaped.
            query: What is None is left out.

        Raises:
            CommandFailed: The API says no; the message has its reason.
        """
        return self._ask("GET", parts, query=query)

    def post(self, *parts: str, body: Json | None = None) -> Json:
        """As `get`, with a JSON body."""
        return self._ask("POST", parts, body=body if body is not None else {})

    def put(self, *parts: str, body: Json) -> Json:
        """As `post`."""
        return self._ask("PUT", parts, body=body)

    def delete(self, *parts: str) -> Json:
        """As `get`."""
        return self._ask("DELETE", parts)

    def pages(self, *parts: str, **query: Any) -> Iterator[Json]:  # noqa: ANN401 - as `get`
        """All items of a list, page by page."""
        while True:
            page = self.get(*parts, **{"limit": _PAGE, **query})
            yield from page["data"]
            if not page.get("has_more") or not page["data"]:
                return
            query["after"] = page["last_id"]

    def readiness(self) -> Json:
        """What /readyz says, ready or not."""
        answer: Json = self._http.get("/readyz").json()
        return answer

    def _ask(
        self,
        method: str,
        parts: tuple[str, ...],
        *,
        query: Json | None = None,
        body: Json | None = None,
    ) -> Json:
        path = "/".join(["/api/v1", *(quote(part, safe="") for part in parts)])
        response = self._http.request(
            method,
            path,
            params={name: value for name, value in (query or {}).items() if value is not None},
            json=body,
            headers={"authorization": f"Bearer {self.key}"},
        )
        answer = _parsed(response)
        if response.status_code >= 400 or not isinstance(answer, dict):
            raise refusal(f"{method} {path}", response.status_code, answer)
        return answer


def _parsed(response: httpx2.Response) -> object:
    try:
        return response.json()
    except ValueError:
        return None
