"""Subscriptions of programs outside, as their project sees them."""

from __future__ import annotations

from services.delivery import domain
from services.delivery.repository import subscriptions
from services.delivery.repository.subscriptions import Subscription
from services.delivery.service.events import check_types
from shared.db import UnitOfWork
from shared.errors import Conflict, Missing, QuotaExceeded
from shared.ids import new_id


def create_subscription(
    uow: UnitOfWork, *, queue: str, types: list[str], most: int
) -> Subscription:
    """
    Push the project's public events into a queue from now on.

    Args:
        uow: Of the project.
        queue: Name within the project.
        types: Types wanted; none means all.
        most: Subscriptions a project may have.

    Raises:
        Invalid: The name or a type is not one.
        Conflict: The project has a subscription for this queue.
        QuotaExceeded: It has *most* of them.
    """
    domain.full_queue_name(uow.project, queue)
    check_types(types)
    if len(subscriptions.list_all(uow.session)) >= most:
        raise QuotaExceeded(
            f"This project has {most} subscriptions already; delete one.",
            code="too_many_subscriptions",
        )
    made = new_id("sub")
    if not subscriptions.insert(uow.session, uow.project, made, queue, types):
        raise Conflict(
            f"There is a subscription for the queue '{queue}'; delete it first.",
            code="queue_taken",
            param="queue",
        )
    uow.audit("subscription.created", made, facts={"queue": queue, "types": types})
    return Subscription(made, uow.project, queue, types, uow.now)


def delete_subscription(uow: UnitOfWork, subscription_id: str) -> None:
    """
    Push no more; what is in the queue stays there for its reader.

    Raises:
        Missing: There is none with this id.
    """
    if not subscriptions.delete(uow.session, subscription_id):
        raise Missing(
            f"There is no subscription {subscription_id} in this project.",
            code="subscription_not_found",
        )
    uow.audit("subscription.deleted", subscription_id)
