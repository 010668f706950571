"""Which models are resident on this host: loads, evicts and lists them."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import httpx2

from services.serving.child import ChildSpec
from services.serving.domain import State, choose_victim, route_prefix
from services.serving.process import find_free_port
from services.serving.resident import Patience, Resident
from services.serving.settings import ServingSettings
from shared.errors import Conflict, Invalid, Missing, Unavailable
from shared.logging import get_logger
from shared.rendering.bases import BaseModel, find_base
from shared.rendering.gguf_header import read_header

_log = get_logger(__name__)


class Residency:
    """The table of resident models. It lives in one event loop, so plain reads need no lock."""

    def __init__(self, settings: ServingSettings, http: httpx2.AsyncClient) -> None:
        self._settings = settings
        self._http = http
        self._residents: dict[str, Resident] = {}
        # Held while room is made, so that two loads cannot both count the same free seat.
        self._admission = asyncio.Lock()

    async def load(
        self, model: str, *, base: str, adapter: str | None, pinned: bool | None
    ) -> Resident:
        """
        Make a model resident, or find it so, and wait until it answers.

        Args:
            model: Its id; it stands for one base and one adapter for as long as it is resident.
            base: Name of the base.
            adapter: Path of a LoRA adapter in GGUF; None serves the base alone.
            pinned: Whether it is kept when room is needed; None leaves that as it is.

        Raises:
            Missing: The base is unknown.
            Invalid: The adapter's file is not there or is no LoRA in GGUF.
            Conflict: The id is resident with another base or adapter.
            Unavailable: No room, or the process did not start.
        """
        weights = require_base(base).gguf_path
        if adapter is not None:
            check_adapter(adapter)
        spec = ChildSpec(
            parent_pid=os.getpid(),
            model=model,
            base=base,
            gguf_path=str(weights),
            adapter=adapter,
            host=self._settings.host,
            advertised_host=self._settings.advertised_host,
            port=find_free_port(self._settings.host),
            prefix=route_prefix(model, base, adapter),
            slots=self._settings.slots,
            context_tokens=self._settings.context_tokens,
            threads=self._settings.threads,
            is_embedding=False,
        )
        resident = await self._seat(spec)
        if resident.spec.prefix != spec.prefix:
            raise Conflict(
                f"Model '{model}' is resident with base '{resident.spec.base}' and adapter "
                f"{resident.spec.adapter}; unload it first, or use another id.",
                code="model_conflict",
                param="adapter",
            )
        if pinned is not None:
            resident.is_pinned = pinned
        await resident.ready()
        return resident

    async def unload(self, model: str) -> None:
        """
        Drain and stop a model.

        Raises:
            Missing: It is not resident.
        """
        await self.find(model).close(self._settings.drain_seconds)

    def find(self, model: str) -> Resident:
        """
        The resident of this id.

        Raises:
            Missing: It is not resident.
        """
        resident = self._residents.get(model)
        if resident is None:
            raise Missing(
                f"Model '{model}' is not resident; load it with POST /v1/load.",
                code="model_not_resident",
                param="model",
            )
        return resident

    def list(self) -> tuple[Resident, ...]:
        return tuple(self._residents.values())

    async def close(self, drain_seconds: float) -> None:
        """Stop all models at once."""
        await asyncio.gather(*(resident.close(drain_seconds) for resident in self.list()))

    async def _seat(self, spec: ChildSpec) -> Resident:
        """The resident of the spec's model, opened if there is none."""
        while True:
            resident = self._residents.get(spec.model)
            if resident is None:
                async with self._admission:
                    if spec.model not in self._residents:
                        await self._make_room()
                        return self._open(spec)
            elif resident.state is State.DRAINING:
                await resident.gone.wait()
            else:
                return resident

    def _open(self, spec: ChildSpec) -> Resident:
        resident = Resident(
            spec,
            http=self._http,
            patience=Patience(
                start=self._settings.start_timeout_seconds,
                probe_interval=self._settings.probe_interval_seconds,
                hang=self._settings.hang_seconds,
            ),
            on_gone=self._forget,
        )
        self._residents[spec.model] = resident
        return resident

    async def _make_room(self) -> None:
        while len(self._residents) >= self._settings.max_resident_models:
            leaving = [r for r in self.list() if r.state is State.DRAINING]
            if not leaving:
                leaving = [await self._evict()]
            await leaving[0].gone.wait()

    async def _evict(self) -> Resident:
        await asyncio.gather(*(resident.refresh() for resident in self.list()))
        victim = choose_victim(resident.seat for resident in self.list())
        if victim is None:
            raise Unavailable(
                f"All {self._settings.max_resident_models} resident models are pinned or starting; "
                "unpin or unload one, or raise PERPETUNE_SERVING_MAX_RESIDENT_MODELS.",
                code="no_capacity",
                retry_after=5,
            )
        _log.info("model_evicted", model=victim.model, running=victim.running)
        resident = self._residents[victim.model]
        await resident.close(self._settings.drain_seconds)
        return resident

    def _forget(self, resident: Resident) -> None:
        if self._residents.get(resident.spec.model) is resident:
            del self._residents[resident.spec.model]


def require_base(name: str) -> BaseModel:
    """
    The base of this name.

    Raises:
        Missing: It is unknown or its weights are not installed.
    """
    base = find_base(name)
    if base is None:
        raise Missing(
            f"There is no base '{name}' on this host.", code="base_not_found", param="base"
        )
    return base


def check_adapter(path: str) -> None:
    """
    Refuse what llama.cpp could not read as an adapter.

    Raises:
        Invalid: There is no such file, or it is no LoRA in GGUF.
    """
    try:
        kind = read_header(Path(path)).metadata.get("adapter.type")
    except (OSError, ValueError) as error:
        raise Invalid(
            f"The adapter {path} cannot be read: {error}",
            code="adapter_not_readable",
            param="adapter",
        ) from error
    if kind != "lora":
        raise Invalid(
            f"{path} is no LoRA adapter; export one from PEFT to GGUF first.",
            code="adapter_not_lora",
            param="adapter",
        )
