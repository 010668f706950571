"""The HTTP door: OpenAI's inference routes, and the chats that were stored."""

from fastapi import APIRouter

from services.inference.api import answering, stored
from services.inference.api.answering import lifespan, measure

__all__ = ["lifespan", "measure", "router"]

router = APIRouter()
for part in (answering, stored):
    router.include_router(part.router)
