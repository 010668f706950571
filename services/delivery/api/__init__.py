"""HTTP adapters of delivery: events, subscriptions, dead letters, and OpenAI's webhooks."""

from fastapi import APIRouter

from services.delivery.api import events, webhooks

router = APIRouter()
for part in (events, webhooks):
    router.include_router(part.router)
