"""
Entry of one llama.cpp process: `python -m services.serving.child <spec as JSON>`.

It answers llama.cpp's own HTTP on one loopback port until it gets SIGTERM or its parent ends.
"""

from __future__ import annotations

import os
import signal
import sys

from pydantic import BaseModel, ConfigDict

from shared.lifeline import die_with_parent

# Prompt tokens per step. A long prompt is fed in pieces, so that other slots keep generating:
# 256 tokens take about 2 s on two shared cores.
_STEP_TOKENS = 256
# A connection holds one HTTP thread while it is open. When callers hold them all, the parent's
# health checks queue behind their answers (measured with 40 streams on the default of 12 threads).
_HTTP_THREADS = 256
_ERRORS_ONLY = 1


class ChildSpec(BaseModel):
    """
    What one llama.cpp process serves, and where.

    Attributes:
        context_tokens: Longest prompt plus answer of one slot.
        prefix: Path before every route.
        is_embedding: Answers embeddings, and nothing else: llama.cpp cannot do both in a process.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    parent_pid: int
    model: str
    base: str
    gguf_path: str
    adapter: str | None
    host: str
    advertised_host: str
    port: int
    prefix: str
    slots: int
    context_tokens: int
    threads: int
    is_embedding: bool

    @property
    def url(self) -> str:
        """Where callers reach it; llama.cpp's routes follow."""
        return f"http://{self.advertised_host}:{self.port}{self.prefix}"


def serve(spec: ChildSpec) -> None:
    """Load the model, listen, and return when SIGTERM arrives."""
    # Blocked before llama.cpp starts its threads, which inherit the mask: only sigwait sees them.
    stop_signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals)
    import xllamacpp  # noqa: PLC0415 - the parent reads ChildSpec and must not load llama.cpp

    params = xllamacpp.CommonParams()
    params.hostnames = [spec.host]
    params.port = spec.port
    params.api_prefix = spec.prefix
    params.n_threads_http = _HTTP_THREADS
    params.ui = False
    params.cors_origins = ""  # the default "*" lets any web page in a browser use the model
    params.endpoint_metrics = True
    params.endpoint_slots = True
    params.verbosity = _ERRORS_ONLY  # higher levels print prompts

    params.model.path = spec.gguf_path
    params.model_alias = {spec.model}
    # Mapped read-only: all children share one copy of the base in the page cache.
    params.load_mode = xllamacpp.llama_load_mode.LLAMA_LOAD_MODE_MMAP
    params.fit_params = False  # would shrink the context to fit memory without telling anybody
    if spec.adapter is not None:
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(spec.adapter, 1.0)]

    params.n_parallel = spec.slots
    params.n_ctx = spec.slots * spec.context_tokens
    params.cont_batching = True
    params.cache_ram_mib = 0  # the default keeps up to 8 GiB of old prompts per process
    params.cache_idle_slots = False
    # A pooled embedding needs its whole input in one step.
    params.n_batch = params.n_ubatch = spec.context_tokens if spec.is_embedding else _STEP_TOKENS
    params.embedding = spec.is_embedding
    if spec.is_embedding:
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN

    for cpu in (params.cpuparams, params.cpuparams_batch):
        cpu.n_threads = spec.threads
        cpu.poll = 0  # waiting threads sleep; trainer and scorer share the cores
    # OpenAI's defaults, for requests that name none: llama.cpp's own cut the distribution.
    params.sampling.temp = 1.0
    params.sampling.top_p = 1.0
    params.sampling.top_k = 0
    params.sampling.min_p = 0.0

    _server = xllamacpp.Server(params)  # lives until the process ends
    signal.sigwait(stop_signals)
    # Tearing the server down would wait for open connections; the parent has drained them already.
    os._exit(0)


if __name__ == "__main__":
    child_spec = ChildSpec.model_validate_json(sys.argv[1])
    die_with_parent(child_spec.parent_pid)
    serve(child_spec)
