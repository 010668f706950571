"""What a team's code does every day, by whichever client runs this: `smoke.py URL KEY BASE`."""

from __future__ import annotations

import json
import sys

import openai


def main(url: str, key: str, base: str) -> None:
    """Files, jobs, models and answers, once each."""
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, timeout=120)
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"{n}?"},
                {"role": "assistant", "content": str(n)},
            ]
        }
        for n in range(12)
    ]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    file = client.files.create(file=("rows.jsonl", content), purpose="fine-tune")
    assert client.files.wait_for_processing(file.id, poll_interval=0.1).status == "processed"
    assert client.files.content(file.id).read() == content
    assert file.id in {each.id for each in client.files.list(purpose="fine-tune")}
    job = client.fine_tuning.jobs.create(
        model=base,
        training_file=file.id,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1}}},
    )
    assert client.fine_tuning.jobs.retrieve(job.id).method.supervised.hyperparameters.n_epochs == 1
    assert job.id in {each.id for each in client.fine_tuning.jobs.list(limit=2)}
    assert list(client.fine_tuning.jobs.list_events(job.id, limit=1))
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    try:
        client.fine_tuning.jobs.cancel(job.id)
        raise AssertionError("a cancelled job was cancelled again")
    except openai.BadRequestError as refused:
        assert refused.code == "job_not_cancellable"  # noqa: PT017 - there is no pytest here
    assert base in {model.id for model in client.models.list()}
    asked = {"model": base, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
    assert client.chat.completions.create(**asked).usage.completion_tokens > 0
    chunks = list(client.chat.completions.create(stream=True, **asked))
    assert chunks[-1].choices[0].finish_reason in {"stop", "length"}
    assert client.completions.create(model=base, prompt="Once", max_tokens=2).choices[0].text
    assert len(client.embeddings.create(model=base, input=["a", "b"]).data) == 2
    assert client.files.delete(file.id).deleted


if __name__ == "__main__":
    main(*sys.argv[1:])
