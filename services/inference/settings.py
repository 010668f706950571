"""Settings of inference, read once at start from PERPETUNE_INFERENCE_*."""

from __future__ import annotations

from functools import cache
from typing import Annotated

from annotated_types import Ge, Le
from pydantic import model_validator
from pydantic_settings import SettingsConfigDict

from shared.settings import BaseServiceSettings


class InferenceSettings(BaseServiceSettings):
    """Of all doors; limits are per process."""

    model_config = SettingsConfigDict(env_prefix="PERPETUNE_INFERENCE_")

    # All attempts and the fallback together. The model server drains a stopped model for 30 s too.
    total_seconds: Annotated[float, Ge(0.1), Le(600)] = 30.0
    # One attempt, where a fallback could still answer in the rest of the time.
    attempt_seconds: Annotated[float, Ge(0.1), Le(600)] = 20.0
    attempts: Annotated[int, Ge(1), Le(10)] = 3
    retry_first_milliseconds: Annotated[int, Ge(1), Le(10_000)] = 100
    retry_longest_milliseconds: Annotated[int, Ge(1), Le(60_000)] = 2_000

    # Failures in a row after which a model is left alone: at one failure in ten, that happens by
    # chance once in 100,000 calls, and costs one pause.
    breaker_failures: Annotated[int, Ge(1), Le(1_000)] = 5
    # A child that died is back within a second; the pause doubles while trials fail.
    breaker_pause_seconds: Annotated[float, Ge(0.01), Le(600)] = 1.0
    # Recovery is noticed within this time.
    breaker_longest_pause_seconds: Annotated[float, Ge(0.01), Le(3600)] = 30.0
    # The longest Retry-After that is believed: a wrong one must not keep a model away for ever.
    longest_rest_seconds: Annotated[float, Ge(0), Le(86_400)] = 300.0
    # Of the calls of a model, this share may be repetitions, and so many beyond that.
    retry_share: Annotated[float, Ge(0), Le(1)] = 0.1
    retry_floor: Annotated[int, Ge(0), Le(10_000)] = 10

    # A child has 8 slots and queues the rest; a queue of seven rounds is all that 30 s can empty.
    max_running_per_model: Annotated[int, Ge(1), Le(10_000)] = 64
    max_running: Annotated[int, Ge(1), Le(100_000)] = 256
    # What a client is told to wait when the process is full.
    admission_retry_milliseconds: Annotated[int, Ge(1), Le(60_000)] = 250

    # Records travel from here to Postgres.
    ship_milliseconds: Annotated[int, Ge(10), Le(60_000)] = 250
    ship_rows: Annotated[int, Ge(1), Le(50_000)] = 2_000
    spool_segment_bytes: Annotated[int, Ge(1_024), Le(1 << 30)] = 8 << 20
    # While Postgres is away; about a million records. Beyond it records are dropped and counted.
    spool_max_bytes: Annotated[int, Ge(1_024), Le(1 << 40)] = 512 << 20

    # Chats that callers asked to keep; OpenAI keeps them 30 days.
    stored_completion_days: Annotated[float, Ge(0.01), Le(3_650)] = 30.0

    # The queue door.
    door_total_seconds: Annotated[float, Ge(0.1), Le(3600)] = 60.0
    door_concurrency: Annotated[int, Ge(1), Le(10_000)] = 64
    door_max_body_bytes: Annotated[int, Ge(1_024), Le(64 << 20)] = 1 << 20
    # A reply nobody fetches goes away.
    door_reply_seconds: Annotated[int, Ge(1), Le(604_800)] = 3_600
    # How long the same id gets the same answer.
    door_answer_hours: Annotated[float, Ge(0.01), Le(8_760)] = 24.0
    # A door that was not heard of for this long is dead; its messages go back to their queues.
    door_dead_seconds: Annotated[float, Ge(1), Le(3600)] = 15.0

    # Batches. OpenAI's own limits of a file.
    batch_max_requests: Annotated[int, Ge(1), Le(1_000_000)] = 50_000
    batch_max_file_bytes: Annotated[int, Ge(1_024), Le(1 << 30)] = 200 << 20
    # Lines asked at once, of all batches together: half the slots of a child, so that whoever
    # waits for an answer finds one free.
    batch_concurrency: Annotated[int, Ge(1), Le(1_000)] = 4
    # Batches begun at once, each of another project.
    batch_projects: Annotated[int, Ge(1), Le(1_000)] = 32
    # One line, repetitions of one try included. Nobody waits for it, and a long one takes its time.
    batch_total_seconds: Annotated[float, Ge(0.1), Le(3600)] = 300.0
    # How often new batches, and changes of one that is worked on, are looked for.
    batch_poll_seconds: Annotated[float, Ge(0.05), Le(60)] = 1.0
    # Until a batch is taken up again that something here stands in the way of, and how long its
    # files may take to be listed before it makes way for others.
    batch_rest_seconds: Annotated[float, Ge(0.01), Le(600)] = 10.0
    # Starts without progress after which a batch has failed.
    batch_max_attempts: Annotated[int, Ge(1), Le(100)] = 5
    # As for jobs: the openai client gives up a request after 600 s and repeats it twice.
    batch_retry_window_seconds: Annotated[float, Ge(0), Le(86_400)] = 1800.0

    @property
    def longest_answer_seconds(self) -> float:
        """After so long every door has answered or given up."""
        return max(self.total_seconds, self.door_total_seconds, self.batch_total_seconds)

    @model_validator(mode="after")
    def _attempts_fit_the_total(self) -> InferenceSettings:
        if self.attempt_seconds > self.total_seconds:
            raise ValueError("attempt_seconds must not exceed total_seconds")
        return self

    @model_validator(mode="after")
    def _pauses_grow(self) -> InferenceSettings:
        if self.breaker_pause_seconds > self.breaker_longest_pause_seconds:
            raise ValueError("breaker_pause_seconds must not exceed breaker_longest_pause_seconds")
        return self


@cache
def inference_settings() -> InferenceSettings:
    """Those of this process."""
    return InferenceSettings()
