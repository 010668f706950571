"""The service that is left, by OpenAI's client: its jobs, files and answers."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar, cast

import openai
from openai.types.chat import ChatCompletionMessageParam
from openai.types.fine_tuning import FineTuningJob
from pydantic import ValidationError

from services.cli.errors import CommandFailed
from services.cli.imports.answers import Completion, clean, failure, golden_of
from services.cli.imports.chats import Chat
from services.cli.imports.journal import Golden
from services.cli.imports.patience import Pace, TryAgain, patiently

# Several times what this installation trains on; a larger file is to be sampled by its owner.
MOST_FILE_BYTES = 64 << 20
_PAGE = 100
# Of a 400 only these say that the prompt is at fault, and not what is the same in all requests.
_CODES_OF_PROMPTS = frozenset(
    {
        "context_length_exceeded",
        "string_above_max_length",
        "content_filter",
        "content_policy_violation",
        "invalid_prompt",
    }
)
_PARAMS_OF_PROMPTS = ("messages", "tools", "functions")

T = TypeVar("T")


class Unfetchable(Exception):
    """What the service does not give out, files or a list of jobs; the message says why."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of the service: its name, and its length in bytes where it says so."""

    name: str
    bytes: int | None


class OldService:
    """Paced, and patient within bounds: the client's own repetitions are switched off."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        per_minute: float,
        seconds: float,
        on_wait: Callable[[str], None],
    ) -> None:
        """
        Args:
            url: Ends with /v1.
            key: Goes into the header of requests and nowhere else.
            per_minute: Most requests in a minute.
            seconds: Longest wait for an answer.
            on_wait: Hears of every pause.
        """
        self._client = openai.OpenAI(base_url=url, api_key=key, timeout=seconds, max_retries=0)
        self._pace = Pace(per_minute)
        self._on_wait = on_wait

    def jobs(self) -> list[FineTuningJob]:
        """
        All jobs that made a model, newest first.

        Raises:
            Unfetchable: The service lists no jobs, or not for this key.
        """
        try:
            return self._all_jobs()
        except _Refused as error:
            if error.status in {403, 404, 405}:
                raise Unfetchable(f"Jobs are not listed there: {error}") from error
            raise

    def _all_jobs(self) -> list[FineTuningJob]:
        jobs: list[FineTuningJob] = []
        after: str | openai.Omit = openai.omit
        while True:
            page = self._read(partial(self._client.fine_tuning.jobs.list, limit=_PAGE, after=after))
            jobs += [job for job in page.data if job.status == "succeeded" and job.fine_tuned_model]
            if not page.has_more or not page.data:
                return jobs
            after = page.data[-1].id

    def job(self, job_id: str) -> FineTuningJob:
        return self._read(lambda: self._client.fine_tuning.jobs.retrieve(job_id))

    def models(self) -> set[str]:
        """Ids of the models that answer."""
        return {model.id for model in self._read(self._client.models.list).data}

    def file(self, file_id: str) -> StoredFile:
        """
        Raises:
            Unfetchable: The file is gone, expired or not this key's business.
        """
        with _fetching(file_id):
            found = self._read(lambda: self._client.files.retrieve(file_id))
        return StoredFile(found.filename or file_id, found.bytes)

    def content(self, file_id: str) -> bytes:
        """
        Raises:
            Unfetchable: As `file`.
            CommandFailed: It is larger than `MOST_FILE_BYTES`.
        """
        with _fetching(file_id):
            return self._read(lambda: self._download(file_id))

    def await_turn(self) -> None:
        """Wait until the pace lets the next question pass."""
        self._pace.wait()

    def ask(self, model: str, case: Chat, *, max_answer_tokens: int) -> Golden:
        """
        One attempt at one answer, as certain as the model can be (temperature 0), at once.

        Returns:
            The answer; or, for a prompt that the service refuses, the reason.

        Raises:
            TryAgain: It may work later.
            CommandFailed: It never will, for this prompt or any other.
        """
        begun = time.monotonic()
        try:
            with self._mapped():
                # As it was sent: the client takes any JSON for an answer.
                response = self._client.chat.completions.with_raw_response.create(
                    model=model,
                    messages=cast("list[ChatCompletionMessageParam]", list(case.messages)),
                    temperature=0,
                    max_completion_tokens=max_answer_tokens,
                    **case.tools,
                )
                body = _parsed(response.http_response.content)
        except _PromptRefused as refused:
            return failure(str(refused)).model_copy(update={"is_refused": True})
        return _golden(body, (time.monotonic() - begun) * 1000)

    def _read(self, call: Callable[[], T]) -> T:
        def attempt() -> T:
            self._pace.wait()
            with self._mapped():
                return _whole(call())

        return patiently(attempt, self._on_wait)

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[None]:
        """
        What the client raises, as what is to be done about it; the key is in no message.

        Raises:
            TryAgain: Limits of rate, broken connections, failures of the service.
            _PromptRefused: This prompt will never be answered.
            _Refused: The service says no to whatever is asked like this.
        """
        key = self._client.api_key
        try:
            yield
        except openai.APIStatusError as error:
            raise _meaning(error, key) from error
        except openai.APIConnectionError as error:
            said = _told(
                f"No answer from {error.request.url.host} ({error.__cause__ or error}).", key
            )
            raise TryAgain(said, may_be_billed=True) from error
        except (openai.APIError, ValueError) as error:
            said = _told(f"The service's answer cannot be read ({error}).", key)
            raise TryAgain(said, may_be_billed=True) from error

    def _download(self, file_id: str) -> bytes:
        content = bytearray()
        with self._client.files.with_streaming_response.content(file_id) as response:
            for chunk in response.iter_bytes():
                content += chunk
                if len(content) > MOST_FILE_BYTES:
                    raise CommandFailed(
                        f"File {file_id} has more than {MOST_FILE_BYTES >> 20} MiB; give a sample "
                        "of it with --training-file or --validation-file."
                    )
        return bytes(content)


def _whole(found: T) -> T:
    """What was found; the client passes on as text what is no JSON, a proxy's page for example."""
    if isinstance(found, str):
        raise TryAgain("The service answered with something that is no JSON.", may_be_billed=True)
    return found


def _parsed(content: bytes) -> object:
    try:
        return json.loads(content)
    except RecursionError:
        return None


def _golden(body: object, latency_ms: float) -> Golden:
    """An answer that cannot be read was paid for like any other, so it is not asked for again."""
    if isinstance(body, dict) and body.get("choices") == []:
        raise TryAgain("The service answered without an answer.", may_be_billed=True)
    try:
        return golden_of(Completion.model_validate(body), latency_ms)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"])) or "the whole"
        return failure(f"an answer that cannot be read ({where})")


class _PromptRefused(Exception):
    pass


class _Refused(CommandFailed):
    """What the service said no to, with the status it said it by."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@contextlib.contextmanager
def _fetching(file_id: str) -> Iterator[None]:
    try:
        yield
    except _Refused as error:
        if error.status in {400, 403, 404, 410}:
            raise Unfetchable(f"File {file_id} cannot be fetched: {error}") from error
        raise


def _meaning(error: openai.APIStatusError, key: str) -> Exception:
    words = _told(_words(error), key)
    said = f"{error.request.url.host} says {error.status_code}: {words}"
    after = _retry_after(error)
    if error.status_code == 429 and error.code != "insufficient_quota":
        return TryAgain(said, after_seconds=after, may_be_billed=False)
    if error.status_code in {408, 409} or error.status_code >= 500:
        return TryAgain(said, after_seconds=after, may_be_billed=True)
    if error.status_code == 400 and _is_about_the_prompt(error):
        return _PromptRefused(words)
    return _Refused(said, error.status_code)


def _is_about_the_prompt(error: openai.APIStatusError) -> bool:
    return error.code in _CODES_OF_PROMPTS or str(error.param or "").startswith(_PARAMS_OF_PROMPTS)


def _told(text: str, key: str) -> str:
    """Another service's words as they may be shown and written down."""
    return clean(text).replace(key, "***")


def _words(error: openai.APIStatusError) -> str:
    if error.status_code == 401:
        # Some services repeat the key in their answer.
        return "the key is not accepted."
    body = error.body if isinstance(error.body, dict) else {}
    marks = f" ({error.code})" if error.code else ""
    return f"{body.get('message') or 'no explanation'}{marks}"


def _retry_after(error: openai.APIStatusError) -> float | None:
    headers = error.response.headers
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) / unit)
        except (KeyError, ValueError):
            continue
    return None
