"""Scores token sequences under a base, alone or with one PEFT adapter at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from torch.nn import functional
from transformers import LlamaForCausalLM

from services.serving.scoring.batches import split_batches
from services.serving.scoring.messages import Score, ScoredSequence
from shared.errors import Invalid

# Padded tokens of one forward pass; hidden states and attention stay below 200 MiB at 135M.
_BATCH_TOKENS = 4096
# Positions whose logits exist at once: 256 x 49,152 x 4 bytes = 48 MiB.
_HEAD_POSITIONS = 256
# A rank-16 adapter takes about 20 MiB; an evaluation compares two models, a canary two more.
_KEPT_ADAPTERS = 4


class ScoringModel:
    """One base in memory, and the adapters used last."""

    def __init__(self, base: LlamaForCausalLM) -> None:
        self._base = base
        self._peft: PeftModel | None = None
        # Adapter key -> name inside PEFT, least recently used first.
        self._names: OrderedDict[tuple[str, int], str] = OrderedDict()
        self._loaded = 0

    @torch.inference_mode()
    def score(
        self, adapter: Path | None, sequences: Sequence[ScoredSequence], top_logprobs: int
    ) -> list[Score]:
        """
        Log-probabilities of the scored tokens, in the order of *sequences*.

        Raises:
            Invalid: A token is outside the vocabulary, a sequence is longer than the context, or
                the adapter cannot be read or does not fit the base.
        """
        self._check(sequences)
        scores: dict[int, Score] = {}
        with self._adapted(adapter):
            for batch in split_batches([len(s.token_ids) for s in sequences], _BATCH_TOKENS):
                hidden = self._hidden([sequences[i].token_ids for i in batch])
                for row, index in enumerate(batch):
                    scores[index] = self._read(hidden[row], sequences[index], top_logprobs)
        return [scores[index] for index in range(len(sequences))]

    def _hidden(self, rows: list[list[int]]) -> Tensor:
        """Last hidden states, shape (rows, longest, hidden); what follows a row's end is noise."""
        longest = max(map(len, rows))
        # Causal attention never looks right, so padding at the right needs no mask.
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        states: Tensor = self._base.model(input_ids=ids, use_cache=False).last_hidden_state
        return states

    def _read(self, hidden: Tensor, sequence: ScoredSequence, top_logprobs: int) -> Score:
        """Apply the head where a scored token is predicted: at the position before it."""
        positions = torch.tensor([i for i, scored in enumerate(sequence.scored) if scored])
        score = Score(logprobs=[], greedy=[], top_logprobs=[])
        for part in torch.split(positions.long(), _HEAD_POSITIONS):
            targets = torch.tensor(sequence.token_ids)[part]
            logprobs = functional.log_softmax(self._base.lm_head(hidden[part - 1]), dim=-1)
            score.logprobs += logprobs.gather(1, targets[:, None])[:, 0].tolist()
            score.greedy += (logprobs.argmax(dim=-1) == targets).tolist()
            if top_logprobs:
                best = logprobs.topk(top_logprobs, dim=-1)
                score.top_logprobs += [
                    list(zip(ids, values, strict=True))
                    for ids, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
                ]
        return score

    def _check(self, sequences: Sequence[ScoredSequence]) -> None:
        vocabulary = self._base.config.vocab_size
        longest = self._base.config.max_position_embeddings
        for number, sequence in enumerate(sequences):
            if max(sequence.token_ids) >= vocabulary:
                raise Invalid(
                    f"Sequence {number} has a token outside the vocabulary of {vocabulary}.",
                    code="token_out_of_range",
                    param=f"sequences[{number}].token_ids",
                )
            if len(sequence.token_ids) > longest:
                raise Invalid(
                    f"Sequence {number} has {len(sequence.token_ids)} tokens; "
                    f"the base takes {longest}.",
                    code="context_length_exceeded",
                    param=f"sequences[{number}].token_ids",
                )

    def _adapted(self, adapter: Path | None) -> Any:  # noqa: ANN401 - PEFT's context has no type
        """Context in which the base computes with *adapter*; PEFT changes the base's layers."""
        if adapter is None:
            return nullcontext() if self._peft is None else self._peft.disable_adapter()
        name = self._name(adapter)
        assert self._peft is not None
        self._peft.set_adapter(name)
        return nullcontext()

    def _name(self, adapter: Path) -> str:
        """Name of a loaded adapter; loads it, and drops the one unused longest."""
        try:
            key = (str(adapter), (adapter / "adapter_model.safetensors").stat().st_mtime_ns)
            if key not in self._names:
                self._names[key] = self._load(adapter)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise Invalid(
                f"The adapter {adapter} cannot be used with this base: {error}",
                code="adapter_not_usable",
                param="adapter",
            ) from error
        self._names.move_to_end(key)
        if len(self._names) > _KEPT_ADAPTERS:
            _, oldest = self._names.popitem(last=False)
            assert self._peft is not None
            self._peft.delete_adapter(oldest)
        return self._names[key]

    def _load(self, adapter: Path) -> str:
        self._loaded += 1
        name = f"adapter{self._loaded}"
        if self._peft is None:
            self._peft = PeftModel.from_pretrained(self._base, str(adapter), adapter_name=name)
            self._peft.eval()
        else:
            self._peft.load_adapter(str(adapter), adapter_name=name)
        return name
