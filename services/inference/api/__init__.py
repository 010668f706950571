"""The HTTP door: OpenAI's inference routes, the chats that were stored, and batches."""

from fastapi import APIRouter

from services.inference.api import answering, stored
from services.inference.api.answering import lifespan, measure
from services.inference.batches import api as batches

__all__ = ["lifespan", "measure", "router"]

router = APIRouter()
for part in (answering, stored, batches):
    router.include_router(part.router)
