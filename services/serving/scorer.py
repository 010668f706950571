"""The parent's side of scoring: starts the torch process of a base at first use and asks it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from services.serving.on_demand import OnDemand
from services.serving.process import child_environment
from services.serving.residency import require_base
from services.serving.scoring.messages import Answer, Question, Score, ScoredSequence
from services.serving.settings import ServingSettings
from shared.errors import Invalid, Unavailable
from shared.logging import get_logger

_log = get_logger(__name__)
# An answer is one line; a million scored positions with 20 alternatives each fit.
_LONGEST_LINE_BYTES = 1 << 30


class _Ended(Unavailable):
    """The scoring process ended before it answered."""


class ScoringProcess:
    """A running torch process. It answers one question at a time, in the order of asking."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._asking = asyncio.Lock()

    @classmethod
    async def start(cls, weights: str, settings: ServingSettings) -> ScoringProcess:
        """
        Start it and wait until the base is in memory.

        Raises:
            Unavailable: It ended or stayed silent.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.serving.scoring",
            str(os.getpid()),
            weights,
            str(settings.scoring_threads),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LONGEST_LINE_BYTES,
            env=child_environment(settings.scoring_threads),
            start_new_session=True,
        )
        child = cls(process)
        await child._exchange(b"", settings.start_timeout_seconds)
        _log.info("scorer_started", pid=process.pid)
        return child

    @property
    def is_alive(self) -> bool:
        return self._process.returncode is None

    async def ask(self, question: Question, *, timeout_seconds: float) -> Answer:
        """
        One answer.

        Raises:
            Unavailable: It died or took too long; the next question starts a new process.
        """
        async with self._asking:
            line = question.model_dump_json().encode() + b"\n"
            return Answer.model_validate_json(await self._exchange(line, timeout_seconds))

    async def stop(self) -> None:
        if self.is_alive:
            with suppress(ProcessLookupError):
                self._process.kill()
        await self._process.wait()

    async def _exchange(self, line: bytes, timeout_seconds: float) -> bytes:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        answer = b""
        try:
            async with asyncio.timeout(timeout_seconds):
                # Of a process that has just died uvloop refuses the write with a RuntimeError.
                if not self._process.stdin.is_closing():
                    self._process.stdin.write(line)
                    await self._process.stdin.drain()
                    answer = await self._process.stdout.readline()
        except TimeoutError as error:
            raise Unavailable(
                f"Scoring took longer than {timeout_seconds:g} s; send fewer sequences at once.",
                code="scoring_timeout",
                retry_after=1,
            ) from error
        except ConnectionError:
            pass  # it is dead: told below
        finally:
            # An answer that nobody read would be taken for the answer to the next question.
            if not answer:
                await self.stop()
        if not answer:
            raise _Ended(
                "The scoring process ended; its last words are in the log of the serving process.",
                code="scoring_failed",
                retry_after=1,
            )
        return answer


class Scorer:
    """Scores token sequences; one process per base."""

    def __init__(self, settings: ServingSettings) -> None:
        self._settings = settings
        self._processes: dict[str, OnDemand[ScoringProcess]] = {}

    async def score(
        self,
        base: str,
        adapter: str | None,
        sequences: Sequence[ScoredSequence],
        *,
        top_logprobs: int = 0,
    ) -> list[Score]:
        """
        Scores of the sequences, in their order.

        Raises:
            Missing: The base is unknown.
            Invalid: A sequence or the adapter does not fit the base.
            Unavailable: The process did not start, died, or took too long.
        """
        question = Question(adapter=adapter, sequences=list(sequences), top_logprobs=top_logprobs)
        try:
            answer = await self._ask(base, question)
        except _Ended:
            # It may have been dying since before we asked. A question has no effect: ask again.
            answer = await self._ask(base, question)
        if answer.refusal is not None:
            raise Invalid(
                answer.refusal.message, code=answer.refusal.code, param=answer.refusal.param
            )
        return answer.scores

    async def _ask(self, base: str, question: Question) -> Answer:
        async with self._process(base).use() as process:
            return await process.ask(question, timeout_seconds=self._settings.score_timeout_seconds)

    async def close(self) -> None:
        for process in self._processes.values():
            await process.close()

    def _process(self, base: str) -> OnDemand[ScoringProcess]:
        weights = str(require_base(base).gguf_path)
        if base not in self._processes:
            self._processes[base] = OnDemand(
                lambda: ScoringProcess.start(weights, self._settings),
                idle_seconds=self._settings.idle_stop_seconds,
            )
        return self._processes[base]
