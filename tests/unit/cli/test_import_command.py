"""`perpetune import` against two real HTTP servers: the service that is left, and this one."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from services.cli.imports import patience

RECORDED = Path(__file__).parent / "recorded"
ERRORS = json.loads((RECORDED / "errors.json").read_text())
JOBS = json.loads((RECORDED / "jobs.json").read_text())
MODELS = json.loads((RECORDED / "models.json").read_text())
FILE = json.loads((RECORDED / "file.json").read_text())
ANSWER = json.loads((RECORDED / "chat_completion.json").read_text())
MODEL = JOBS["data"][0]["fine_tuned_model"]
BASE = "smollm2-135m-instruct"
CHAT = ("POST", "/v1/chat/completions")
PRICES = ("--price-input", "3", "--price-output", "6")


def rows(count, word):
    return b"".join(
        json.dumps(
            {
                "messages": [
                    {"role": "user", "content": f"{word} {number}"},
                    {"role": "assistant", "content": f"answer {number}"},
                ]
            }
        ).encode()
        + b"\n"
        for number in range(count)
    )


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "home" / "imports" / "moved"


@pytest.fixture
def ours(stub):
    """This installation, as far as a job: then it says no."""
    stub.will_answer("GET", f"/v1/models/{BASE}", {"id": BASE, "object": "model"})
    stub.will_answer("GET", "/v1/fine_tuning/jobs", {"object": "list", "data": []})
    stub.will_answer("GET", "/v1/files", {"object": "list", "data": []})
    stub.will_answer("POST", "/v1/files", {"id": "file-1", "object": "file"})
    stub.will_answer("GET", "/api/v1/files/file-1/report", {"gate": "pass"})
    stub.will_answer("POST", "/v1/fine_tuning/jobs", {"error": {"message": "Enough."}}, status=400)
    return stub


@pytest.fixture
def theirs(provider, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-old")
    monkeypatch.setattr(patience, "_FIRST_SECONDS", 0.001)
    provider.will_answer("GET", "/v1/fine_tuning/jobs", JOBS)
    provider.will_answer("GET", "/v1/models", MODELS)
    for name, content in (("train", rows(12, "train")), ("val", rows(6, "val"))):
        provider.will_answer("GET", f"/v1/files/file-{name}", FILE | {"id": f"file-{name}"})
        provider.will_answer("GET", f"/v1/files/file-{name}/content", content)
    provider.will_answer("GET", "/v1/files/file-expired", ERRORS["file_gone"], status=404)
    provider.will_answer(*CHAT, ANSWER)
    return provider


@pytest.fixture
def arguments(theirs):
    return (
        *("import", "openai", "--from-url", f"{theirs.url}/v1", "--model", MODEL),
        *("--name", "moved", "--cases", "4", "--requests-per-minute", "6000"),
    )


def journal(folder):
    return [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]


def goldens(folder):
    return [entry["case"] for entry in journal(folder) if entry["kind"] == "golden"]


def test_without_a_model_the_fine_tunes_are_listed(perpetune, theirs):
    arguments = (
        "import",
        "openai",
        "--from-url",
        f"{theirs.url}/v1",
        "--requests-per-minute",
        "6000",
    )
    code, out, _ = perpetune(*arguments, "--json")
    found = json.loads(out)
    assert code == 0
    assert [row["model"] for row in found] == [
        MODEL,
        "ft:gpt-3.5-turbo-0613:acme::7p4lURel",
        "ft:gpt-4.1-nano-2025-04-14:acme:elsewhere:C1c2C3c4",
    ]
    assert [row["answers"] for row in found] == [True, False, True]
    assert found[0]["training_file"]["is_there"]
    assert not found[1]["training_file"]["is_there"]
    assert "No such File" in found[1]["training_file"]["reason"]
    assert found[1]["validation_file"] is None
    assert not theirs.bodies(*CHAT)
    _, out, _ = perpetune(*arguments)
    assert "file-train (there)" in out
    assert "file-expired (gone)" in out


def test_dry_run_tells_calls_tokens_and_money_and_does_nothing(
    perpetune, ours, theirs, arguments, folder
):
    code, out, err = perpetune(*arguments, *PRICES, "--dry-run", "--json")
    plan = json.loads(out)
    assert code == 0, err
    assert (plan["calls"], plan["training_rows"], plan["validation_rows"]) == (4, 12, 2)
    assert plan["old_base"] == "gpt-4o-mini-2024-07-18"
    assert 0 < plan["expected_money"] < plan["most_money"]
    assert plan["most_tokens"]["output"] == 4 * 512
    assert not theirs.bodies(*CHAT)
    assert not folder.parent.exists()
    assert not ours.asked


def test_answers_are_kept_and_not_asked_for_again(perpetune, ours, theirs, arguments, folder):
    code, _, err = perpetune(*arguments)
    assert code == 1
    assert "Step 3 (training) failed. Enough." in err
    assert goldens(folder) == [0, 1, 2, 3]
    assert len(theirs.bodies(*CHAT)) == 4
    fetched = len(theirs.asked)
    perpetune(*arguments)
    assert len(theirs.asked) == fetched  # nothing more, not even the files
    assert "sk-old" not in (folder / "journal.jsonl").read_text()
    assert {authorization for *_, authorization in theirs.asked} == {"Bearer sk-old"}


def test_changed_command_is_refused_with_what_differs(perpetune, ours, arguments):
    perpetune(*arguments)
    code, _, err = perpetune(*arguments, "--epochs", "3", "--seed", "8")
    assert code == 1
    assert "--epochs was not given, is 3; --seed was 7, is 8" in err
    code, _, err = perpetune(*arguments, "--cases", "5")
    assert "--cases 4 or less" in err


def test_budget_is_never_exceeded_and_says_how_to_go_on(perpetune, ours, theirs, arguments, folder):
    # At worst a question is 16 tokens of answer and a few hundred bytes; it is charged 19 and 10.
    prices = ("--price-input", "0", "--price-output", "1000000", "--max-answer-tokens", "16")
    code, _, err = perpetune(*arguments, *prices, "--budget", "30")
    assert code == 1
    assert goldens(folder) == [0, 1]  # 10 and 10 are spent; a third might take 16
    assert "20.0000 are spent on 2 of 4 answers" in err
    assert "larger --budget, or with --cases 2" in err
    perpetune(*arguments, *prices, "--budget", "36")
    assert goldens(folder) == [0, 1, 2]
    code, _, err = perpetune(*arguments, *prices, "--budget", "36", "--cases", "2")
    assert "Step 3 (training) failed" in err  # it goes on with what is there
    assert len(theirs.bodies(*CHAT)) == 3


def test_lost_answer_counts_as_its_worst(perpetune, ours, theirs, arguments, folder):
    theirs.will_first_answer(*CHAT, ERRORS["overloaded"], status=500)
    prices = ("--price-input", "0", "--price-output", "1000000", "--max-answer-tokens", "16")
    perpetune(*arguments, *prices, "--budget", "45")
    assert goldens(folder) == [0, 1]  # 16 for the lost one, 10 and 10; the next might be 16


def test_budget_without_prices_is_refused(perpetune, arguments):
    code, _, err = perpetune(*arguments, "--budget", "5")
    assert code == 1
    assert "--price-input" in err


def test_limit_of_rate_is_waited_for(perpetune, ours, theirs, arguments, folder):
    theirs.will_first_answer(*CHAT, ERRORS["rate"], status=429, headers={"retry-after-ms": "10"})
    perpetune(*arguments)
    assert goldens(folder) == [0, 1, 2, 3]
    assert sum(entry["kind"] == "unbilled" for entry in journal(folder)) == 1


@pytest.mark.parametrize(("status", "made"), [("failed", 1), ("cancelled", 1), ("running", 0)])
def test_job_that_ended_without_a_model_is_followed_by_another(
    perpetune, stub, ours, arguments, status, made
):
    job = {"id": "ftjob-1", "object": "fine_tuning.job", "status": status, "model": BASE}
    stub.will_answer(
        "GET", "/v1/fine_tuning/jobs", {"object": "list", "data": [job], "has_more": False}
    )
    stub.will_answer("GET", "/v1/files", {"object": "list", "data": []})
    stub.will_answer("POST", "/v1/files", {"id": "file-1", "object": "file"})
    stub.will_answer("GET", "/api/v1/files/file-1/report", {"gate": "pass"})
    perpetune(*arguments)
    assert len(stub.bodies("POST", "/v1/fine_tuning/jobs")) == made


def test_file_that_was_uploaded_before_a_kill_is_not_uploaded_again(
    perpetune, stub, ours, arguments, folder
):
    perpetune(*arguments)
    (begun,) = [entry for entry in journal(folder) if entry["kind"] == "begun"]
    digest = hashlib.sha256((folder / "training.jsonl").read_bytes()).hexdigest()[:16]
    there = {"id": "file-1", "filename": f"{begun['token']}-training-{digest}.jsonl"}
    stub.will_answer("GET", "/v1/files", {"object": "list", "data": [there], "has_more": False})
    stub.will_answer("GET", "/api/v1/files/file-1/report", {"gate": "pass"})
    stub.will_answer("POST", "/v1/files", {"id": "file-2", "object": "file"})
    stub.asked.clear()
    perpetune(*arguments)
    (job,) = stub.bodies("POST", "/v1/fine_tuning/jobs")
    assert (job["training_file"], job["validation_file"]) == ("file-1", "file-2")
    assert len(stub.bodies("POST", "/v1/files")) == 1


def test_rows_that_do_not_pass_the_checks_are_named_before_anything_is_paid(
    perpetune, stub, ours, theirs, arguments, folder
):
    finding = {"severity": "error", "line": 3, "message": "It is odd.", "fix": "Mend it."}
    stub.will_answer("GET", "/v1/files", {"object": "list", "data": []})
    stub.will_answer("POST", "/v1/files", {"id": "file-1", "object": "file"})
    stub.will_answer("GET", "/api/v1/files/file-1/report", {"gate": "fail", "findings": [finding]})
    code, _, err = perpetune(*arguments)
    assert code == 1
    assert f"{folder}/training.jsonl" in err
    assert "Line 3: It is odd. Mend it." in err
    assert not theirs.bodies(*CHAT)  # nothing was paid for
    assert not stub.bodies("POST", "/v1/fine_tuning/jobs")


def test_model_that_is_gone_ends_it_before_anything_is_trained(perpetune, ours, theirs, arguments):
    theirs.will_answer(*CHAT, ERRORS["model_gone"], status=404)
    code, _, err = perpetune(*arguments)
    assert code == 1
    assert "Step 2 (golden answers) failed" in err
    assert "model_not_found" in err
    assert not ours.bodies("POST", "/v1/fine_tuning/jobs")


def test_file_that_is_gone_can_be_given(perpetune, ours, theirs, arguments, tmp_path):
    theirs.will_answer("GET", "/v1/files/file-train/content", ERRORS["file_gone"], status=404)
    code, _, err = perpetune(*arguments)
    assert code == 1
    assert "File file-train cannot be fetched" in err
    assert "--training-file" in err
    given = tmp_path / "train.jsonl"
    given.write_bytes(rows(11, "given"))
    code, out, _ = perpetune(*arguments, "--name", "other", "--training-file", str(given))
    assert "11 rows to train on" in out


@pytest.mark.parametrize("status", [403, 404, 405])
def test_service_that_lists_no_jobs_needs_the_rows_alone(
    perpetune, ours, theirs, arguments, tmp_path, status
):
    theirs.will_answer("GET", "/v1/fine_tuning/jobs", ERRORS["file_gone"], status=status)
    code, _, err = perpetune(*arguments)
    assert code == 1
    assert "--training-file" in err
    given = tmp_path / "train.jsonl"
    given.write_bytes(rows(30, "given"))
    code, out, err = perpetune(
        *arguments, "--name", "other", "--training-file", str(given), "--dry-run"
    )
    assert code == 0, err
    assert "Jobs are not listed there" in out


def test_rows_have_to_fit_the_root_of_a_tuned_base(perpetune, theirs, arguments):
    theirs.will_answer("GET", "/v1/files/file-val/content", rows(3, "v") + rows(1, "long " * 9000))
    tuned = f"ft:{BASE}:default:moved:abcd1234"
    code, out, err = perpetune(*arguments, "--base", tuned, "--dry-run")
    assert code == 0, err
    assert "1 rows are not asked about" in out


def test_job_that_learned_from_rewards_has_nothing_to_train_on(perpetune, ours, theirs, arguments):
    job = JOBS["data"][0] | {"method": {"type": "reinforcement"}}
    theirs.will_answer("GET", "/v1/fine_tuning/jobs", JOBS | {"data": [job]})
    code, _, err = perpetune(*arguments)
    assert code == 1
    assert "learned from rewards" in err
    assert "--training-file" in err


def test_job_that_went_on_from_another_fine_tune_is_told(perpetune, ours, theirs, arguments):
    job = JOBS["data"][0] | {"model": "ft:gpt-4o-mini-2024-07-18:acme::parent"}
    theirs.will_answer("GET", "/v1/fine_tuning/jobs", JOBS | {"data": [job]})
    _, out, _ = perpetune(*arguments)
    assert "went on from ft:gpt-4o-mini-2024-07-18:acme::parent" in out


def test_preferences_are_trained_as_preferences(
    perpetune, stub, theirs, arguments, folder, tmp_path
):
    given = tmp_path / "preferences.jsonl"
    given.write_bytes(
        b"".join(
            json.dumps(
                {
                    "input": {"messages": [{"role": "user", "content": f"{number}?"}]},
                    "preferred_output": [{"role": "assistant", "content": "good"}],
                    "non_preferred_output": [{"role": "assistant", "content": "bad"}],
                }
            ).encode()
            + b"\n"
            for number in range(12)
        )
    )
    stub.will_answer("GET", f"/v1/models/{BASE}", {"id": BASE, "object": "model"})
    stub.will_answer("GET", "/v1/fine_tuning/jobs", {"object": "list", "data": []})
    stub.will_answer("GET", "/v1/files", {"object": "list", "data": []})
    stub.will_answer("POST", "/v1/files", {"id": "file-1", "object": "file"})
    stub.will_answer("GET", "/api/v1/files/file-1/report", {"gate": "pass"})
    perpetune(*arguments, "--training-file", str(given))
    (job,) = stub.bodies("POST", "/v1/fine_tuning/jobs")
    assert job["method"] == {"type": "dpo", "dpo": {"hyperparameters": {}}}
    (begun,) = [entry for entry in journal(folder) if entry["kind"] == "begun"]
    assert job["metadata"]["perpetune_import"] == begun["token"]


def test_validation_file_that_is_gone_is_told_and_replaced_by_held_out_rows(
    perpetune, ours, theirs, arguments
):
    theirs.will_answer("GET", "/v1/files/file-val/content", ERRORS["file_gone"], status=404)
    theirs.will_answer("GET", "/v1/files/file-train/content", rows(30, "train"))
    _, out, _ = perpetune(*arguments)
    assert "The validation file is not to be had" in out
    assert "4 cases, from: training file, held out" in out
    assert "26 rows to train on" in out


@pytest.fixture
def environment(stub, theirs, tmp_path):
    return os.environ | {
        "PERPETUNE_HOME": str(tmp_path / "home"),
        "PERPETUNE_URL": stub.url,
        "PERPETUNE_API_KEY": "ppt_stub_0",
    }


def hear_interrupts():
    """Where tests run in the background of a shell, their children would ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def started(arguments, environment, theirs):
    """A process of the command that has asked one more question."""
    before = len(theirs.bodies(*CHAT))
    running = subprocess.Popen(
        [sys.executable, "-m", "services.cli.main", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=hear_interrupts,  # noqa: PLW1509 - it takes no lock
    )
    deadline = time.monotonic() + 30
    while len(theirs.bodies(*CHAT)) == before:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return running


def test_killed_among_the_answers_it_asks_again_for_the_one_under_way_alone(
    perpetune, ours, theirs, arguments, environment, folder
):
    """Three times: nothing answered is asked again."""
    for _ in range(3):
        running = started((*arguments, "--requests-per-minute", "60"), environment, theirs)
        running.send_signal(signal.SIGKILL)
        running.communicate()
    perpetune(*arguments)
    assert goldens(folder) == [0, 1, 2, 3]
    assert len(theirs.bodies(*CHAT)) <= 4 + 3


def test_interrupted_it_says_how_to_go_on(ours, theirs, arguments, environment, folder):
    running = started((*arguments, "--requests-per-minute", "30"), environment, theirs)
    deadline = time.monotonic() + 20
    while goldens(folder) != [0]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    # The answer is there, and the next question waits for its turn.
    running.send_signal(signal.SIGINT)
    out, _ = running.communicate(timeout=20)
    assert running.returncode == 130
    assert "the same command goes on from here" in out
    assert "Traceback" not in out
    assert goldens(folder) == [0]


def test_there_is_no_import_without_a_key(perpetune, theirs, arguments, monkeypatch, tmp_path):
    monkeypatch.delenv("OPENAI_API_KEY")
    code, _, err = perpetune(*arguments)
    assert code == 1
    assert "OPENAI_API_KEY" in err
    key = tmp_path / "key"
    key.write_text("sk-of-file\n")
    perpetune(*arguments, "--from-key-file", str(key), "--dry-run")
    assert theirs.asked[-1][3] == "Bearer sk-of-file"


@pytest.mark.parametrize("key", ["sk-one\nsk-two", "sk one", "sk-ä", "sk-\x7f"])
def test_key_that_is_no_header_is_refused_and_not_shown(
    perpetune, theirs, arguments, tmp_path, key
):
    file = tmp_path / "key"
    file.write_text(key)
    code, out, err = perpetune(*arguments, "--from-key-file", str(file))
    assert code == 1
    assert "printable ASCII" in err
    assert "sk" not in out + err.replace(str(file), "")
    assert not theirs.asked


@pytest.mark.parametrize("name", ["../a", "A", "-", "a b"])
def test_name_that_is_no_folder_is_refused(perpetune, theirs, arguments, name):
    code, _, err = perpetune(*arguments, f"--name={name}")
    assert code == 1
    assert "cannot be the name of an import" in err


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/v1",
        "host/v1",
        "sk-secret",
        "https://user:secret@host/v1",
        "https://host/v1?key=secret",
    ],
)
def test_address_with_a_secret_is_refused_before_it_is_used(perpetune, theirs, arguments, url):
    code, _, err = perpetune(*arguments, "--from-url", url)
    assert code == 1
    assert "--from-url" in err
    assert "secret" not in err
    assert not theirs.asked


@pytest.mark.parametrize("amount", ["free", "-1", "nan", "inf"])
def test_price_is_an_amount_of_money(perpetune, arguments, amount):
    code, _, err = perpetune(*arguments, f"--price-input={amount}", "--price-output=1")
    assert code == 2
    assert "no amount of money" in err


def test_logged_answers_need_no_old_service(perpetune, ours, tmp_path):
    training, answers = tmp_path / "train.jsonl", tmp_path / "logged.jsonl"
    training.write_bytes(rows(12, "train"))
    answers.write_bytes(rows(3, "val"))
    common = ("import", "jsonl", "--training-file", str(training), "--answers", str(answers))
    code, _, err = perpetune(*common)
    assert code == 1
    assert "--model" in err  # the rows do not say whose answers they are
    code, out, err = perpetune(*common, "--model", "ft:gone", "--name", "logs")
    assert "3 cases, from: logged answers" in out
    assert "Step 3 (training) failed. Enough." in err
    answers.write_bytes(json.dumps(json.loads(rows(1, "val")) | {"model": "ft:b"}).encode())
    code, _, err = perpetune(*common, "--model", "ft:a", "--name", "other")
    assert code == 1
    assert "--model is ft:a, and the logged answers are of ft:b" in err
