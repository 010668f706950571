"""The run: from a folder with a plan and rows to an adapter, with every step reported."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file

from services.finetuning.domain.methods import DPO
from services.finetuning.train.base import load_llama
from services.finetuning.train.batches import Pair, batch_of_step, count_tokens
from services.finetuning.train.engine import Engine, Measured
from services.finetuning.train.export import export_adapter, import_adapter
from services.finetuning.train.lora import new_adapter
from services.finetuning.train.metrics import Journal, write_result_file
from services.finetuning.train.plan import learning_rate_at
from services.finetuning.train.reference import with_reference
from services.finetuning.train.state import Progress, load_state, save_state
from services.finetuning.train.stopping import Evaluation, Verdict, judge
from services.finetuning.train.task import Task, read_task
from shared.errors import Invalid

Emit = Callable[[dict[str, Any]], None]


def run(folder: Path, emit: Emit, is_stopping: Callable[[], bool]) -> None:
    """
    Trains until the plan is done, validation stops improving, or *is_stopping* says so.

    A folder with a saved state is continued from there.

    Args:
        folder: Holds the plan and the rows; state, checkpoints and results are written into it.
        emit: Receives every event as a JSON object.
        is_stopping: Asked after every step; the state is saved before returning.

    Raises:
        Invalid: Plan or rows cannot be used.
        FloatingPointError: Training diverged.
        OSError: A file cannot be read or written.
    """
    started = time.monotonic()
    task = read_task(folder)
    for notice in task.notices:
        emit({"event": "warning", "code": notice.code, "message": notice.message})
    training = begin(task, emit, is_stopping)
    if training is None:
        emit({"event": "stopped", "step": 0})
        return
    training.report_loaded(time.monotonic() - started)
    while not training.is_done:
        training.advance()
        if is_stopping() and not training.is_done:
            training.save()
            emit({"event": "stopped", "step": training.progress.step})
            return
    training.finish()


def begin(task: Task, emit: Emit, is_stopping: Callable[[], bool]) -> Training | None:
    """The run, with its model in memory; None when it was stopped before its first step."""
    if task.plan.threads is not None:
        torch.set_num_threads(task.plan.threads)
    engine = _engine_of(task)
    if task.plan.method == DPO:
        # Before a saved state is restored: the reference is what training began with.
        referenced = _referenced(task, engine, emit, is_stopping)
        if referenced is None:
            return None
        task = referenced
    return Training(task, engine, emit)


def _engine_of(task: Task) -> Engine[Any]:
    llama = load_llama(task.base.gguf_path, _device(task.plan.device))
    if task.plan.continue_from is None:
        adapter = new_adapter(
            llama, rank=task.plan.rank, alpha=task.plan.alpha, seed=task.plan.seed
        )
    else:
        adapter = import_adapter(Path(task.plan.continue_from), llama, task.base)
    return Engine(llama, adapter, task.objective, micro_batch_tokens=task.plan.micro_batch_tokens)


class Training:
    """A run in progress."""

    def __init__(self, task: Task, engine: Engine[Any], emit: Emit) -> None:
        self._task = task
        self._engine = engine
        self._emit = emit
        self._state_file = task.folder / "state.safetensors"
        self.progress = self._resume()
        self._resumed_from = self.progress.step
        self._journal = Journal(task.folder / "metrics.jsonl", last_step=self.progress.step)
        self._saved_at = time.monotonic()

    @property
    def is_done(self) -> bool:
        if self.progress.step >= self._task.total_steps:
            return True
        verdict = self._verdict()
        return verdict is not None and verdict.should_stop

    def report_loaded(self, seconds: float) -> None:
        task = self._task
        self._emit(
            {
                "event": "loaded",
                "base": task.base.name,
                "rows": len(task.rows),
                "validation_rows": len(task.validation),
                "tokens": count_tokens(task.rows),
                "total_steps": task.total_steps,
                "learning_rate": task.peak_learning_rate,
                "trainable_parameters": sum(
                    tensor.numel() for tensor in self._engine.weights().values()
                ),
                "threads": torch.get_num_threads(),
                "resumed_from_step": self._resumed_from,
                "seconds": round(seconds, 3),
            }
        )

    def advance(self) -> None:
        """One step, its measurements, and a saved state when it is time for one."""
        task, step = self._task, self.progress.step + 1
        started = time.monotonic()
        chosen = batch_of_step(
            step, n_rows=len(task.rows), batch_size=task.plan.batch_size, seed=task.plan.seed
        )
        rows = [task.rows[number] for number in chosen]
        rate = learning_rate_at(step, task.total_steps, task.peak_learning_rate)
        measured, norm = self._engine.step(rows, rate)
        record = {
            "step": step,
            "total_steps": task.total_steps,
            **_named("train", measured),
            "learning_rate": rate,
            "grad_norm": norm,
            "tokens": count_tokens(rows),
            "seconds": round(time.monotonic() - started, 3),
        }
        self.progress = replace(
            self.progress,
            step=step,
            trained_tokens=self.progress.trained_tokens + count_tokens(rows),
        )
        record |= self._validate(step)
        self._journal.append(record)
        self._emit({"event": "step", **record})
        if step % task.steps_per_epoch == 0:
            self._checkpoint(record)
        if time.monotonic() - self._saved_at >= task.plan.save_seconds:
            self.save()

    def save(self) -> None:
        """Saves the state; best weights that are no longer the best are removed after it."""
        save_state(self._state_file, self.progress, self._engine.snapshot())
        self._saved_at = time.monotonic()
        verdict = self._verdict()
        for file in self._task.folder.glob("best-*.safetensors"):
            if verdict is None or file != self._best_file(verdict.best_step):
                file.unlink()

    def finish(self) -> None:
        """Exports the best weights (the last ones without validation) and the result file."""
        self.save()
        task, verdict = self._task, self._verdict()
        best_step = self.progress.step if verdict is None else verdict.best_step
        if best_step != self.progress.step:
            self._engine.load_weights(load_file(self._best_file(best_step)))
        path = task.folder / "model"
        self._export(path, best_step)
        result = task.folder / "result.csv"
        write_result_file(result, self._journal.read())
        self._emit(
            {
                "event": "finished",
                "step": self.progress.step,
                "best_step": best_step,
                "stopped_early": self.progress.step < task.total_steps,
                "path": str(path),
                "trained_tokens": self.progress.trained_tokens,
                "result_csv": str(result),
            }
        )

    def _resume(self) -> Progress:
        saved = load_state(self._state_file)
        if saved is None:
            return Progress(self._task.fingerprint)
        progress, tensors = saved
        if progress.fingerprint != self._task.fingerprint:
            raise Invalid(
                f"{self._state_file} was saved by a run with another plan or other rows; "
                "use a new folder.",
                code="state_mismatch",
            )
        self._engine.restore(tensors)
        return progress

    def _validate(self, step: int) -> dict[str, float]:
        task, metrics = self._task, dict[str, float]()
        is_full = step in task.full_evaluations
        sample = self._validation_sample(step)
        measured = None
        if sample:
            measured = self._engine.evaluate([task.validation[number] for number in sample])
            metrics |= _named("valid", measured)
        if is_full:
            # What the sample has measured is not measured again.
            others = [row for n, row in enumerate(task.validation) if n not in set(sample)]
            if others:
                rest = self._engine.evaluate(others)
                measured = rest if measured is None else measured + rest
            assert measured is not None  # a row is in the sample or among the others
            metrics |= _named("full_valid", measured)
            self._note_evaluation(Evaluation(step, measured.loss))
        return metrics

    def _validation_sample(self, step: int) -> tuple[int, ...]:
        """Numbers of the validation rows that are measured at *step*; most steps have none."""
        every, rows = self._task.plan.small_evaluation_steps, self._task.validation
        if not rows or step % every:
            return ()
        return batch_of_step(
            step // every,
            n_rows=len(rows),
            batch_size=self._task.plan.batch_size,
            seed=self._task.plan.seed,
        )

    def _note_evaluation(self, evaluation: Evaluation) -> None:
        self.progress = replace(self.progress, history=(*self.progress.history, evaluation))
        verdict = self._verdict()
        if verdict is not None and verdict.best_step == evaluation.step:
            save_file(self._engine.weights(), self._best_file(evaluation.step))

    def _verdict(self) -> Verdict | None:
        if not self.progress.history:
            return None
        return judge(
            self.progress.history,
            steps_per_epoch=self._task.steps_per_epoch,
            patience=self._task.plan.patience,
            min_improvement=self._task.plan.min_improvement,
        )

    def _checkpoint(self, record: dict[str, Any]) -> None:
        path = self._task.folder / "checkpoints" / f"step-{self.progress.step}"
        self._export(path, self.progress.step)
        metrics = {
            key: value
            for key, value in record.items()
            if key == "step" or key.endswith(("_loss", "_accuracy"))
        }
        self._emit(
            {
                "event": "checkpoint",
                "step": self.progress.step,
                "path": str(path),
                "metrics": metrics,
            }
        )

    def _export(self, path: Path, step: int) -> None:
        facts = {
            "step": step,
            "data_digest": self._task.data_digest,
            "code_version": self._task.plan.code_version,
            "seed": self._task.plan.seed,
        }
        export_adapter(path, self._engine.llama, self._engine.adapter, self._task.base, facts)

    def _best_file(self, step: int) -> Path:
        return self._task.folder / f"best-{step}.safetensors"


def _named(prefix: str, measured: Measured) -> dict[str, float]:
    return {f"{prefix}_loss": measured.loss, f"{prefix}_mean_token_accuracy": measured.accuracy}


def _referenced(
    task: Task, engine: Engine[Any], emit: Emit, is_stopping: Callable[[], bool]
) -> Task | None:
    """The task with the reference of all its pairs; None when it was stopped before."""
    pairs = cast("list[Pair]", [*task.rows, *task.validation])

    def report(done: int) -> bool:
        emit({"event": "referenced", "pairs": done, "total_pairs": len(pairs)})
        return not is_stopping()

    file = task.folder / "reference.jsonl"
    known = with_reference(pairs, engine, file, task.fingerprint, report)
    if known is None:
        return None
    count = len(task.rows)
    return replace(task, rows=known[:count], validation=known[count:])


def _device(name: str | None) -> torch.device:
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
