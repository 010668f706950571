"""F-25: messages as an older release stored them, and as a newer one will send them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

from shared.contracts.catalogue import BY_TYPE, CONSUMERS
from shared.ids import uuid7
from tests.contract.test_stored_messages import stored_envelopes, with_strangers
from tests.faults.load import Rates
from tests.faults.probes import reader_of
from tests.faults.stack import Stack
from tests.faults.trial import Trial, bound_of_nothing
from tests.faults.watching import until

FAULT = "F-25"
# Projects in which nothing of what the examples are about exists.
EXAMPLES = "examples-"
# A job is no message: its lease is all there is of it.
RATES = Rates(jobs=0)

# What a newer release adds to the head of an envelope and to what it carries.
STRANGERS = {
    "text": "ünknown",
    "number": -1.5e300,
    "nothing": None,
    "list": [1, [2, {"three": []}]],
    "object": {"id": 1, "type": "of.another.v9", "data": {"number": "0"}},
}
# In front of every consumer there is: whatever is written gets the strangers.
STRANGERS_JOIN = """
CREATE FUNCTION faults.join_strangers() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.envelope = jsonb_set(NEW.envelope || '{strangers}',
                             ARRAY['data'], (NEW.envelope -> 'data') || '{strangers}');
    RETURN NEW;
END $$;
CREATE TRIGGER strangers BEFORE INSERT ON spine.deliveries
FOR EACH ROW EXECUTE FUNCTION faults.join_strangers();
"""
STRANGERS_LEAVE = """
DROP TRIGGER strangers ON spine.deliveries;
DROP FUNCTION faults.join_strangers();
"""


def test_messages_of_a_newer_release_have_their_effect(stack, trial):
    """Fields that nobody knows in every envelope of the load.

    Guarantee: a message with an unknown field means what it means without it.
    """
    bound = bound_of_nothing(stack.settings)
    with trial.load(RATES) as load:
        for _ in trial.rounds(full=10):
            with strangers_in_every_row(stack, trial.chance.choice(list(STRANGERS))):
                trial.pause(1.0, 2.0)
                trial.recovered(load, bound)
    trial.conclude(load, bound)


def test_every_stored_example_is_read_by_its_consumers(stack, trial):
    """Every stored example, as it is or with unknown fields, given to all its consumers.

    Guarantee: what any release stored is read by the workers of this one.
    """
    bound = bound_of_nothing(stack.settings)
    with trial.load(RATES) as load:
        for _ in trial.rounds(full=10):
            planted = plant_examples(stack, trial)
            trial.recovered(load, bound)
            until(lambda ids=planted: not unread(stack, ids), what="all examples are read")
            until(lambda: not untried(stack), what="all consumers have tried")
            # What they are about does not exist, so some would be tried for a while.
            stack.rows("DELETE FROM spine.deliveries WHERE project LIKE %s", f"{EXAMPLES}%")
    trial.note(f"{len(planted)} examples a round, each given to all consumers of its type")
    refused = unreadable(stack)
    trial.expect(not refused, f"consumers could not read their examples: {refused}")
    trial.expect(not crashes(stack), f"consumers crashed on their examples: {crashes(stack)}")
    trial.conclude(load, bound)


@contextlib.contextmanager
def strangers_in_every_row(stack: Stack, kind: str) -> Iterator[None]:
    """For the length of a block."""
    stranger = json.dumps({"from_the_future": STRANGERS[kind]})
    stack.rows(STRANGERS_JOIN.replace("{strangers}", stranger))
    try:
        yield
    finally:
        stack.rows(STRANGERS_LEAVE)


def plant_examples(stack: Stack, trial: Trial) -> list[str]:
    """Deliver each example to all its consumers and to its reader; the envelopes' ids."""
    project, planted = f"{EXAMPLES}{uuid7().hex[-8:]}", []
    for type_, stored in stored_envelopes().items():
        document = trial.chance.choice((stored, with_strangers(stored)))
        envelope = {**document, "id": f"evt_{uuid7().hex}", "project": project}
        for task in (reader_of(type_), *CONSUMERS[BY_TYPE[type_]]):
            stack.plant(project, task, envelope)
        planted.append(envelope["id"])
        # One after the other, as the load's own come, and no backlog.
        trial.pause(0.02, 0.2)
    return planted


def unread(stack: Stack, envelopes: list[str]) -> set[str]:
    """Which of the envelopes no reader has read yet."""
    rows = stack.rows("SELECT number FROM faults.effects WHERE kind = 'read'")
    return set(envelopes) - {row[0] for row in rows}


def untried(stack: Stack) -> list[tuple[str]]:
    return stack.rows(
        "SELECT task FROM spine.deliveries WHERE project LIKE %s AND starts = 0", f"{EXAMPLES}%"
    )


def crashes(stack: Stack) -> set[tuple[str, str]]:
    """
    Tasks and errors that nobody foresaw.

    The same file in a second project is one of this test alone: ids are unique in all projects.
    """
    lines = [line for line in stack.logs().splitlines() if '"task_crashed"' in line]
    found = {(event["task"], event["error"]) for event in map(json.loads, lines)}
    return found - {("ingestion.adopt_file", "IntegrityError")}


def unreadable(stack: Stack) -> list[tuple[str, str]]:
    """Consumers that could not read an example. What it is about need not exist."""
    return stack.rows(
        "SELECT task, reason FROM spine.dead_letters "
        "WHERE project LIKE %s AND reason LIKE '%%unreadable%%'",
        f"{EXAMPLES}%",
    )
