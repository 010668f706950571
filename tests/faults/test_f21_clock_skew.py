"""F-21: the clock of one process two hours fast, two hours slow, or jumping between the two."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from shared.context import Context
from shared.ids import Project, uuid7
from tests.faults.doors import status_of
from tests.faults.layout import Layout
from tests.faults.load import Load
from tests.faults.probes import Probe
from tests.faults.skew import by_clock, library, set_clock
from tests.faults.stack import Stack
from tests.faults.trial import Bound, Trial
from tests.faults.watching import until

FAULT = "F-21"
LAYOUT = Layout(holders=2)
VICTIMS = ("worker-1", "holder-1", "delivery-1", "gateway")
OFFSETS = ("+2h", "-2h")
# Until a process sees its clock changed.
SEEN_SECONDS = 1.0
# A key may be ended so much early or late.
KEY_SECONDS = 60
DUE_SECONDS = 1.0


@pytest.fixture(scope="module")
def clocks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("clocks")
    return {name: folder / name for name in VICTIMS}


@pytest.fixture(scope="module")
def stack(stacks, clocks: dict[str, Path]) -> Stack:
    if (found := library()) is None:
        return stacks.of(Layout())
    wrapped = tuple((name, by_clock(found, clock)) for name, clock in clocks.items())
    return stacks.of(replace(LAYOUT, wrapped=wrapped))


@pytest.fixture
def fair_clocks(clocks: dict[str, Path]) -> Iterator[None]:
    yield
    for clock in clocks.values():
        set_clock(clock, "+0")


@pytest.mark.usefixtures("fair_clocks")
def test_clock_of_one_process_wrong(stack: Stack, trial: Trial, clocks: dict[str, Path]):
    """One process two hours fast or slow, and jumping: worker, holder, delivery, gateway in turn.

    Guarantee: no lease is stolen, nothing is rung early or late, no API key ends more than a
    minute early or late, and feedback is attributed: what counts is the clock of the database.
    """
    if library() is None:
        trial.skip("libfaketime is not installed, or cannot be loaded on this machine")
    again = stack.settings.ring_again_seconds
    bound = Bound(2 * again, f"as without a wrong clock: two ringings again, {again} s each")
    lateness = []
    with trial.load() as load:
        for number in trial.rounds():
            clock = clocks[trial.in_turn(VICTIMS, number)]
            for offset in trial.chance.sample(OFFSETS, k=2):
                trial.pause()
                set_clock(clock, offset)
                lateness.append(ring_in_time(stack, load, bound))
                keys_end_in_time(stack, trial, offset)
            set_clock(clock, "+0")
            trial.recovered(load, bound)
    trial.note(f"due in {DUE_SECONDS} s: at most {max(lateness):.1f} s late, never early")
    expect_nothing_stolen(stack, trial, load)
    trial.conclude(load, bound)


def ring_in_time(stack: Stack, load: Load, bound: Bound) -> float:
    """One command that is due later, once the clock is wrong; returns how late it was."""
    time.sleep(SEEN_SECONDS)
    number = str(uuid7())
    with stack.app.open(Context.root(Project(load.projects[0]), "faults")) as uow:
        uow.emit(Probe(number=number), due_in_seconds=DUE_SECONDS)
        due_at = uow.now.timestamp() + DUE_SECONDS
    done_at = load.await_done({number}, seconds=DUE_SECONDS + bound.seconds)
    assert done_at >= due_at, f"rung {due_at - done_at:.1f} s early"
    return done_at - due_at


def keys_end_in_time(stack: Stack, trial: Trial, offset: str) -> None:
    """A key that ended a minute ago is refused, one that ends in a minute is not."""
    names = {seconds: f"f21-{uuid7().hex}" for seconds in (-KEY_SECONDS, KEY_SECONDS)}
    secrets = {seconds: stack.key(name) for seconds, name in names.items()}
    # The ended one last: when it is refused, the end of the other is known as well.
    for seconds in (KEY_SECONDS, -KEY_SECONDS):
        stack.rows(
            "UPDATE gateway.keys SET expires_at = now() + make_interval(secs => %s) "
            "WHERE project = %s",
            seconds,
            names[seconds],
        )

    def answer(seconds: int) -> int:
        return status_of(stack.port, "/api/v1/keys", secrets[seconds])

    until(lambda: answer(-KEY_SECONDS) == 401, what=f"an ended key is refused at {offset}")
    trial.expect(answer(KEY_SECONDS) == 200, f"a key was refused a minute early, clock {offset}")


def expect_nothing_stolen(stack: Stack, trial: Trial, load: Load) -> None:
    ((refused,),) = stack.rows("SELECT count(*) FROM faults.refusals")
    stolen = stack.rows(
        "SELECT number FROM faults.steps GROUP BY number HAVING count(DISTINCT fence) > 1"
    )
    trial.expect(not stolen and not refused, f"{len(stolen)} leases stolen, {refused} refusals")
    trial.expect("task_crashed" not in stack.logs(), "a task crashed")
    ((lost,),) = stack.rows(
        "SELECT count(*) FROM feedback.outcomes WHERE workload_id IS NULL AND project = ANY(%s)",
        list(load.projects),
    )
    trial.expect(lost == 0, f"{lost} labels without their workload")
