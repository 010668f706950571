"""F-28: one project's backlog of 100,000 deliveries in a queue, and single commands of another."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from statistics import median

from shared.context import Context
from shared.contracts.envelope import Envelope
from shared.ids import Project, uuid7
from tests.faults.layout import Layout
from tests.faults.load import Load, Rates
from tests.faults.probes import Probe
from tests.faults.stack import Stack
from tests.faults.trial import Bound, Trial
from tests.faults.watching import until

FAULT = "F-28"
# Four times the workers' children, as for production's 64 with sixteen.
WINDOW = 8
LAYOUT = Layout(settings=(("ring_window", WINDOW),))
BACKLOG, SHORT_BACKLOG = 100_000, 10_000
# Of a few milliseconds each: enough for a median that says something.
SINGLE = 60
NOTHING_ELSE = Rates(probes=0, phased=0, jobs=0, api=0)

_BACKLOG = """
    INSERT INTO spine.deliveries (id, project, queue, task, envelope, lane, key, due_at)
    SELECT gen_random_uuid(), %s, 'drift', 'drift.probe',
           jsonb_set(%s::jsonb, '{data,number}', to_jsonb(%s || n)), NULL, NULL, now()
    FROM generate_series(1, %s) AS n
"""


def test_a_noisy_project(stack: Stack, trial: Trial):
    """A backlog of one project, then single commands of another in the same queue.

    Guarantee: a quiet project's command starts within twice the time it takes when nobody else
    works, and is done while the backlog lasts.
    """
    again = stack.settings.ring_again_seconds
    bound = Bound(again, f"a single command waits for no ringing again, {again} s")
    ratios = []
    size = BACKLOG if trial.is_full else SHORT_BACKLOG
    with trial.load(NOTHING_ELSE, projects=1) as load:
        for _ in trial.rounds(full=3):
            normal = median(start_seconds(stack, load) for _ in range(SINGLE))
            with backlog(stack, trial, size) as project:
                trial.pause()
                seconds = [start_seconds(stack, load) for _ in range(SINGLE)]
                left = unfinished(stack, project)
            trial.expect(left > 0, "the backlog was done before the quiet project's commands")
            ratios.append(median(seconds) / normal)
            trial.note(
                f"alone {normal * 1000:.0f} ms, beside {left:,} left of {size:,}: "
                f"median {median(seconds) * 1000:.0f} ms, worst {max(seconds) * 1000:.0f} ms, "
                f"{ratios[-1]:.1f} x"
            )
            trial.recovered(load, bound)
    trial.expect_timely(
        max(ratios) <= 2, f"a quiet project waited {max(ratios):.1f} x as long as alone"
    )
    trial.conclude(load, bound)


@contextlib.contextmanager
def backlog(stack: Stack, trial: Trial, size: int) -> Iterator[str]:
    """A backlog of a project of its own for the length of a block; what is left is taken back."""
    project = f"f28-noise-{uuid7().hex}"
    context = Context.root(Project(project), "faults")
    with stack.app.open(context) as uow:
        envelope = Envelope.seal(Probe(number=""), context, uow.now)
    before = effects(stack, project)
    stack.rows(_BACKLOG, project, envelope.model_dump_json(), f"{project} ", size)
    try:
        yield project
    finally:
        removed = stack.rows(
            "DELETE FROM spine.deliveries WHERE project = %s RETURNING id", project
        )
    # Else the server cleans up after us in the midst of the next round's measurement.
    stack.rows("VACUUM ANALYZE spine.deliveries")
    done = effects(stack, project) - before
    trial.expect(
        done + len(removed) == size,
        f"of {size} deliveries of the noisy project {done} were done and {len(removed)} left",
    )


def start_seconds(stack: Stack, load: Load) -> float:
    """From the commit of one command until it takes effect; it holds nothing."""
    number = str(uuid7())
    load.emit("probe", load.projects[0], Probe(number=number))

    def effect() -> list[tuple[float]]:
        return stack.rows(
            "SELECT extract(epoch FROM at)::float8 FROM faults.effects WHERE number = %s", number
        )

    ((at,),) = until(effect, what="the single command takes effect")
    return float(at) - load.accepted[number].accepted_at


def effects(stack: Stack, project: str) -> int:
    ((count,),) = stack.rows("SELECT count(*) FROM faults.effects WHERE project = %s", project)
    return int(count)


def unfinished(stack: Stack, project: str) -> int:
    ((count,),) = stack.rows("SELECT count(*) FROM spine.deliveries WHERE project = %s", project)
    return int(count)
