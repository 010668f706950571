"""Step 6: the world changes, outcomes fall, and a subscriber hears of it."""

from __future__ import annotations

from typing import Any

from services.cli.demo.bus import Subscriber
from services.cli.demo.demonstration import Demonstration
from services.cli.demo.listings import World
from services.cli.demo.summary import StepRecord
from services.cli.demo.traffic import Answer, share_right
from services.cli.waiting import wait_for

NAME = "drift"
TITLE = "the world changes"
_MOST_REQUESTS = 40
_ALERT_TIMEOUT_SECONDS = 20.0


def run(demo: Demonstration, record: StepRecord) -> None:
    subscription = demo.connection.post(
        "subscriptions",
        body={"queue": f"{demo.workload}-alerts", "types": ["drift.detected.v1"]},
    )
    broker = subscription["broker"]
    demo.screen.say(f"subscribed: drift.detected.v1 into the kombu queue {broker['queue']}")
    demo.screen.say("from now on: square metres, prices in millions, a yield for a cap rate")
    with demo.bus.subscriber(broker["queue"], broker["global_keyprefix"]) as subscriber:
        answers, event = _drive(demo, record, subscriber)
    demo.connection.delete("subscriptions", subscription["id"])
    alert = _alert(demo, event["data"]["alert_id"])
    demo.summary.ids["alert"] = alert["id"]
    record.requests += len(answers)
    record.accuracy["live_changed"] = share_right(answers)
    record.facts["requests_until_alert"] = alert["requests_until_alert"]
    record.facts["sent_until_received"] = len(answers)
    demo.screen.say(f"event {event['id']} ({event['type']}) arrived in the subscriber's queue")
    demo.screen.say(
        f"alert {alert['id']}: {alert['metric']} drifted; it took "
        f"{alert['requests_until_alert']} requests from the change to the alert",
        "bold",
    )
    demo.screen.say(f"guarantee: {alert['guarantee']}", "dim")


def _drive(
    demo: Demonstration, record: StepRecord, subscriber: Subscriber
) -> tuple[list[Answer], dict[str, Any]]:
    received: list[dict[str, Any]] = []
    seen: list[Answer] = []

    def hear(answer: Answer) -> None:
        # Who reads the answer sees that it is wrong, and says so with the right one.
        demo.traffic.correct(answer)
        seen.append(answer)

    def arrived() -> bool:
        received.extend(event for event in subscriber.read() if _is_ours(demo, event))
        watch.update(f"{len(seen)} outcomes, {sum(one.is_right for one in seen)} right")
        return bool(received)

    with demo.screen.watch("changed listings") as watch:
        with record.timed("serving"):
            demo.traffic.drive(World.CHANGED, most=_MOST_REQUESTS, until=arrived, hear=hear)
        wait_for(
            "the drift alert in the subscriber's queue",
            lambda: arrived() or None,
            timeout_seconds=_ALERT_TIMEOUT_SECONDS,
        )
    return seen, received[0]


def _is_ours(demo: Demonstration, event: dict[str, Any]) -> bool:
    alerts = demo.connection.get("alerts", workload=demo.workload)["data"]
    return event["data"]["alert_id"] in {alert["id"] for alert in alerts}


def _alert(demo: Demonstration, alert_id: str) -> dict[str, Any]:
    alerts = demo.connection.get("alerts", workload=demo.workload)["data"]
    found: dict[str, Any] = next(alert for alert in alerts if alert["id"] == alert_id)
    return found
