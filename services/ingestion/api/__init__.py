"""HTTP adapters of ingestion: OpenAI's files and uploads, our reports and datasets."""

from fastapi import APIRouter

from services.ingestion.api import datasets, files, uploads

router = APIRouter()
for part in (files, uploads, datasets):
    router.include_router(part.router)
