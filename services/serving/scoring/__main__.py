"""
Entry of the scoring process: `python -m services.serving.scoring <parent pid> <GGUF> <threads>`.

Answers one question a line until its input ends.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

from services.serving.scoring.messages import Answer, Question, Refusal
from shared.errors import Invalid
from shared.lifeline import die_with_parent

if TYPE_CHECKING:
    from services.serving.scoring.model import ScoringModel


def main() -> None:
    parent_pid, weights, threads = sys.argv[1:]
    die_with_parent(int(parent_pid))
    answers = take_stdout()
    os.environ["HF_HUB_OFFLINE"] = "1"  # an adapter names its base; nothing may be downloaded

    import torch  # noqa: PLC0415 - the process must be tied to its parent before seconds of import

    from services.serving.scoring.base import load_base  # noqa: PLC0415
    from services.serving.scoring.model import ScoringModel  # noqa: PLC0415

    torch.set_num_threads(int(threads))
    model = ScoringModel(load_base(Path(weights)))
    send(answers, Answer())
    for line in sys.stdin:
        send(answers, answer(model, Question.model_validate_json(line)))


def answer(model: ScoringModel, question: Question) -> Answer:
    adapter = None if question.adapter is None else Path(question.adapter)
    try:
        return Answer(scores=model.score(adapter, question.sequences, question.top_logprobs))
    except Invalid as error:
        return Answer(refusal=Refusal(message=error.message, code=error.code, param=error.param))


def take_stdout() -> IO[str]:
    """The pipe to the parent. Prints of libraries go to stderr from now on."""
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return pipe


def send(pipe: IO[str], message: Answer) -> None:
    pipe.write(message.model_dump_json() + "\n")
    pipe.flush()


if __name__ == "__main__":
    main()
