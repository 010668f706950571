"""Step 2: a fine-tuning job, by the unmodified `openai` client."""

from __future__ import annotations

from services.cli.demo.demonstration import BASE_MODEL, HYPERPARAMETERS, Demonstration
from services.cli.demo.steps import jobs
from services.cli.demo.summary import StepRecord

NAME = "fine-tuning"
TITLE = "fine-tuning"


def run(demo: Demonstration, record: StepRecord) -> None:
    job = demo.connection.openai.fine_tuning.jobs.create(
        model=BASE_MODEL,
        training_file=demo.files["training"],
        validation_file=demo.files["validation"],
        method={"type": "supervised", "supervised": {"hyperparameters": HYPERPARAMETERS}},
        suffix=demo.workload,
        seed=demo.seed,
    )
    demo.project = job.organization_id
    numbers = ", ".join(f"{name}={value}" for name, value in HYPERPARAMETERS.items())
    demo.screen.say(f"job {job.id} on {BASE_MODEL}, {numbers}")
    ended = jobs.follow(demo, record, job.id)
    assert ended.fine_tuned_model is not None  # `follow` returns jobs that have made a model
    demo.model = demo.summary.ids["tuned_model"] = ended.fine_tuned_model
    demo.summary.ids["job"] = job.id
    _show_tokens(demo, job.id)


def _show_tokens(demo: Demonstration, job_id: str) -> None:
    for dataset in demo.connection.get("datasets")["data"]:
        if job_id in dataset["requester"] and dataset["tokens"]:
            tokens = dataset["tokens"]
            demo.screen.say(
                f"dataset {dataset['id']}: {tokens['total']} tokens, {tokens['trained']} of them "
                f"learned; rows of {tokens['shortest']} to {tokens['longest']} tokens, "
                f"median {tokens['median']}, {tokens['truncated_rows']} cut"
            )
            return
