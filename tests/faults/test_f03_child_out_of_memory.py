"""F-03: messages that take more memory than there is, or whose child the kernel ends for it."""

from __future__ import annotations

import time
import uuid

from shared.ids import uuid7
from tests.faults.layout import Layout
from tests.faults.load import Rates
from tests.faults.probes import PoisonousProbe
from tests.faults.trial import Bound
from tests.faults.watching import until

FAULT = "F-03"
ATTEMPTS = 3
LAYOUT = Layout(settings=(("delivery_attempts", ATTEMPTS),))
CHORE_SECONDS = 1.0
# A spawned child imports every room before it serves, on two cores that do other work as well.
CHILD_SECONDS = 5.0
HARMS = ("memory", "kill")


def test_poison_is_buried_after_its_attempts_and_the_queue_moves_on(stack, trial):
    """A task allocates beyond the limit of its memory, or its child is killed for it.

    Guarantee: a message that ends its worker is tried as often as the setting says and then is a
    dead letter, its neighbours never are, and it takes effect when it is replayed after the cause
    is gone.
    """
    again = stack.settings.ring_again_seconds
    bound = Bound(
        ATTEMPTS * (again + CHILD_SECONDS) + CHORE_SECONDS,
        f"{ATTEMPTS} attempts, after each a ringing again ({again} s) and a new child "
        f"({CHILD_SECONDS} s), and the chore that buries ({CHORE_SECONDS} s)",
    )
    slowest: dict[str, float] = {}
    with trial.load(Rates(probes=4, phased=0.5, jobs=0.3, api=0.5)) as load:
        for number in trial.rounds():
            trial.pause()
            project, poison = trial.chance.choice(load.projects), str(uuid7())
            harm = trial.in_turn(HARMS, number)
            load.emit("poisonous", project, PoisonousProbe(number=poison, harm=harm))
            sent = time.monotonic()
            trial.recovered(load, bound)
            slowest[harm] = max(slowest.get(harm, 0.0), time.monotonic() - sent)
            trial.expect(load.dead() == {poison}, f"dead letters are {load.dead()}, not {poison}")
            attempts = stack.shop.calls[poison]
            trial.expect(attempts == ATTEMPTS, f"{harm}: buried after {attempts} attempts")
            replay(stack, load, project, poison)
    for harm, seconds in slowest.items():
        trial.note(f"{harm}: buried within {seconds:.1f} s, done when replayed with an antidote")
        trial.expect_timely(seconds <= bound.seconds, f"{harm}: buried after {seconds:.1f} s")
    trial.conclude(load, bound)


def replay(stack, load, project: str, poison: str) -> None:
    stack.rows("INSERT INTO faults.antidotes VALUES (%s)", poison)
    ((letter,),) = stack.rows(
        "SELECT id::text FROM spine.dead_letters WHERE envelope -> 'data' ->> 'number' = %s", poison
    )
    again = load.ask(f"/api/v1/dead-letters/{letter}/replay", {}, str(uuid.uuid4()), project)
    assert again, "the replay has no answer"
    until(lambda: poison in load.effects(), what="the replayed message takes effect")
