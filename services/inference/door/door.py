"""The door itself: one event loop, one taker per project, bounded work, an answer to everything.

At least once: a message is forgotten in the step that sends its answer. The same id gets the
stored answer, so a repetition costs nothing and says nothing new.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from services.inference.core import Answer, Core
from services.inference.door.answers import Answers
from services.inference.door.dead_letters import DeadLetters, Letter, heading
from services.inference.door.mailbox import Mailbox, RedisError
from services.inference.door.messages import Malformed, Request, Sender, read_request, write_reply
from services.inference.jobs import Origin, chat_job
from services.inference.repository.door_answers import StoredAnswer
from services.inference.schemas import ChatRequest, read_body
from services.inference.settings import InferenceSettings
from shared.errors import Conflict, Invalid, PerpetuneError
from shared.ids import Project
from shared.logging import get_logger

_log = get_logger(__name__)
_BROKEN = "Something broke on our side; the log of the queue door says what."
_AGAIN_SECONDS = 0.5
_LOOK_SECONDS = 0.5
_FORGET_EVERY_SECONDS = 600.0
_FIND_LOST_EVERY_SECONDS = 60.0


class QueueDoor:
    """Answers what lies in the queues of all projects, until it is told to stop."""

    def __init__(
        self,
        *,
        core: Core,
        mailbox: Mailbox,
        answers: Answers,
        letters: DeadLetters,
        projects: Callable[[], Iterable[str]],
        settings: InferenceSettings,
    ) -> None:
        """
        Args:
            core: Answers.
            mailbox: The queues.
            answers: Earlier answers.
            letters: Where messages end that nobody can answer.
            projects: Names all projects there are now, from memory.
            settings: Limits.
        """
        self._core = core
        self._mailbox = mailbox
        self._answers = answers
        self._letters = letters
        self._projects = projects
        self._settings = settings
        self._free = asyncio.Semaphore(settings.door_concurrency)
        self._takers: dict[str, asyncio.Task[None]] = {}
        self._working: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event, *, drain_seconds: float) -> None:
        """Serve until *stop* is set; then finish what was begun, for so many seconds."""
        succession = self._mailbox.succession
        upkeep = [
            asyncio.create_task(self._keep(act, seconds))
            for act, seconds in (
                (succession.beat, self._beat_seconds),
                (succession.inherit, self._beat_seconds),
                (succession.find_lost, _FIND_LOST_EVERY_SECONDS),
                (self._try_suspects, self._beat_seconds),
                (self._record_dead, self._beat_seconds),
                (self._forget_old, _FORGET_EVERY_SECONDS),
            )
        ]
        while not stop.is_set():
            self._open_new()
            await _wait(stop, _LOOK_SECONDS)
        await _cancelled(self._takers.values())
        if self._working:
            await asyncio.wait(self._working, timeout=drain_seconds)
        await _cancelled([*self._working, *upkeep])
        await self._insist(succession.leave, attempts=2)

    @property
    def _beat_seconds(self) -> float:
        # Two beats may be lost before anybody thinks this door is dead.
        return self._settings.door_dead_seconds / 3

    def _open_new(self) -> None:
        for project in set(self._projects()) - set(self._takers):
            self._takers[project] = asyncio.create_task(self._take_all(Project(project)))

    async def _take_all(self, project: Project) -> None:
        await self._insist(lambda: self._mailbox.open(project))
        while True:
            try:
                raw = await self._mailbox.take(project)
            except RedisError as error:
                _log.warning("bus_away", error=type(error).__name__)
                await asyncio.sleep(_AGAIN_SECONDS)
                await self._insist(lambda: self._mailbox.reclaim(project))
                continue
            if raw is not None:
                await self._begin(project, raw)

    async def _try_suspects(self) -> None:
        for project in map(Project, tuple(self._takers)):
            while (raw := await self._mailbox.take_suspect(project)) is not None:
                await asyncio.wait({await self._begin(project, raw)})
                await self._mailbox.succession.acquit()

    async def _record_dead(self) -> None:
        while (entry := await self._mailbox.oldest_dead()) is not None:
            if not await self._letters.record(Letter.decode(entry)):
                return
            await self._mailbox.forget_dead(entry)

    async def _begin(self, project: Project, raw: bytes) -> asyncio.Task[None]:
        await self._free.acquire()
        task = asyncio.create_task(self._serve(project, raw))
        self._working.add(task)
        task.add_done_callback(self._working.discard)
        return task

    async def _serve(self, project: Project, raw: bytes) -> None:
        try:
            try:
                request = self._read(project, raw)
            except Malformed as error:
                await self._refuse(project, raw, error)
                return
            reply = write_reply(request.id, await self._answer(project, request), request.sender)
            await self._finish(project, raw, request.sender, reply)
        finally:
            self._free.release()

    def _read(self, project: Project, raw: bytes) -> Request:
        return read_request(raw, project, max_body_bytes=self._settings.door_max_body_bytes)

    async def _refuse(self, project: Project, raw: bytes, error: Malformed) -> None:
        _log.warning("door_message_malformed", project=project, reason=error.message)
        if error.sender.reply_to is None:
            # One heading for all attempts: an attempt that failed may have been carried out.
            letter = heading(project, error.message, 1)
            await self._insist(lambda: self._mailbox.bury(project, raw, letter))
            return
        reply = write_reply(None, _failed(error), error.sender)
        await self._finish(project, raw, error.sender, reply)

    async def _finish(self, project: Project, raw: bytes, sender: Sender, reply: bytes) -> None:
        await self._insist(
            lambda: self._mailbox.finish(project, raw, reply_to=sender.reply_to, reply=reply)
        )

    async def _answer(self, project: Project, request: Request) -> dict[str, Any]:
        """`{response | error, headers}`, stored under the id if it is worth repeating."""
        try:
            if request.id is None:
                return _written(await self._generate(project, request))
            known = await self._answers.find(project, request.id)
            if known is None:
                answer = await self._generate(project, request)
                known = StoredAnswer(request.fingerprint, _written(answer))
                # What may go better next time is not what the id stands for.
                if answer.status < 429:
                    known = await self._answers.keep(project, request.id, known)
            return _same_question(request, known)
        except PerpetuneError as error:
            return _failed(error)
        except Exception as error:  # noqa: BLE001 -- the sender waits for an answer, whatever broke
            _log.error("door_request_crashed", error=type(error).__name__, exc_info=error)
            return _failed(PerpetuneError(_BROKEN, code="internal_error"))

    async def _generate(self, project: Project, request: Request) -> Answer:
        body = read_body(ChatRequest, request.body)
        if body.stream:
            raise Invalid(
                "A queue carries whole answers; leave 'stream' out.",
                code="unsupported_parameter",
                param="stream",
            )
        job = chat_job(body, Origin(project, "queue"))
        return await self._core.answer(job, total_seconds=self._settings.door_total_seconds)

    async def _forget_old(self) -> None:
        await self._answers.forget_old(self._settings.door_answer_hours)

    async def _keep(self, act: Callable[[], Any], seconds: float) -> None:
        while True:
            await self._insist(act)
            await asyncio.sleep(seconds)

    async def _insist(self, act: Callable[[], Any], *, attempts: int | None = None) -> None:
        """Do *act*, again and again while the bus is away."""
        done = 0
        while attempts is None or done < attempts:
            try:
                await act()
            except RedisError as error:
                done += 1
                _log.warning("bus_away", error=type(error).__name__)
                await asyncio.sleep(_AGAIN_SECONDS)
            else:
                return


def _written(answer: Answer) -> dict[str, Any]:
    kind = {"response": answer.body} if answer.status == 200 else answer.body
    return {**kind, "headers": dict(answer.headers)}


def _failed(error: PerpetuneError) -> dict[str, Any]:
    return {**error.body(), "headers": {}}


def _same_question(request: Request, known: StoredAnswer) -> dict[str, Any]:
    if known.fingerprint != request.fingerprint:
        raise Conflict(
            f"The id '{request.id}' was used for another request; use a new one.",
            code="id_reused",
            param="id",
        )
    return known.answer


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return


async def _cancelled(tasks: Iterable[asyncio.Task[None]]) -> None:
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        # asyncio.wait_for of Python 3.11 may swallow a cancellation, and the bus client uses it.
        _, pending = await asyncio.wait(pending, timeout=_AGAIN_SECONDS)
