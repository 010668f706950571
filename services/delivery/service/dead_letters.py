"""Dead letters: looking at one, giving it another life, or giving it up for good."""

from __future__ import annotations

from services.delivery.repository import dead_letters
from services.delivery.repository.dead_letters import DeadLetter
from shared.broker import ROOM_QUEUES
from shared.contracts.envelope import Envelope
from shared.db import UnitOfWork
from shared.errors import Conflict, Corrupt, Missing
from shared.ids import uuid7


def load_dead_letter(uow: UnitOfWork, letter_id: str) -> DeadLetter:
    """
    One dead letter.

    Raises:
        Missing: There is none with that id, or it was replayed or discarded.
    """
    letter = dead_letters.find(uow.session, letter_id)
    if letter is None:
        raise _missing(letter_id)
    return letter


def replay_dead_letter(uow: UnitOfWork, letter_id: str) -> str:
    """
    Make a dead letter due again, with all its attempts.

    The delivery is a new one, and what it delivers is the same event: correlation and causation
    are those of the first life.

    Returns:
        Id of the delivery.

    Raises:
        Missing: As `load_dead_letter`.
        Conflict: It was no delivery of ours, or cannot be read.
    """
    letter = load_dead_letter(uow, letter_id)
    if letter.queue not in ROOM_QUEUES:
        raise Conflict(
            f"Dead letter {letter_id} was a message in the queue {letter.queue}, whose sender "
            "waits no longer; send it again, or discard it.",
            code="dead_letter_not_replayable",
        )
    if _event_of(letter) is None:
        raise Conflict(
            f"What dead letter {letter_id} holds is no event, so no task can do anything about it; "
            "discard it.",
            code="dead_letter_unreadable",
        )
    delivery = uuid7()
    # Somebody may have been faster since it was read.
    if not dead_letters.move_back(uow.session, letter_id, delivery):
        raise _missing(letter_id)
    uow.audit(
        "dead_letter.replayed", letter_id, facts={**_facts(letter), "delivery": str(delivery)}
    )
    return str(delivery)


def discard_dead_letter(uow: UnitOfWork, letter_id: str, reason: str) -> None:
    """
    Delete a dead letter; what it was and why nobody needs it stays in the audit log.

    Raises:
        Missing: As `load_dead_letter`.
    """
    letter = load_dead_letter(uow, letter_id)
    if not dead_letters.remove(uow.session, letter_id):
        raise _missing(letter_id)
    facts = {**_facts(letter), "buried_because": letter.reason}
    uow.audit("dead_letter.discarded", letter_id, reason=reason, facts=facts)


def _facts(letter: DeadLetter) -> dict[str, str]:
    event = _event_of(letter)
    return {"task": letter.task, **({"event": event.id, "type": event.type} if event else {})}


def _event_of(letter: DeadLetter) -> Envelope | None:
    try:
        return Envelope.read(letter.stored)
    except Corrupt:
        return None


def _missing(letter_id: str) -> Missing:
    return Missing(
        f"There is no dead letter {letter_id} in this project.", code="dead_letter_not_found"
    )
