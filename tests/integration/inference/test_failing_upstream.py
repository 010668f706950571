"""The HTTP door over a model server that fails in every way a model server can."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from inference_doors import BASE, RELEASES, TUNED, World, await_true, http_door

from services.inference.settings import InferenceSettings
from shared.testing import upstream as acts
from shared.testing.upstream import Upstream

PATH = "/v1/chat/completions"
FAST = {
    "retry_first_milliseconds": 1,
    "retry_longest_milliseconds": 2,
    "breaker_pause_seconds": 0.2,
    "breaker_longest_pause_seconds": 0.4,
}


@pytest.fixture
def upstream():
    with Upstream() as started:
        yield started


@pytest.fixture
def make_door(upstream, tmp_path):
    """A door with settings of its own, before workload `shop`."""
    opened = []

    def make(*, routes=None, **settings):
        world = World(tmp_path, upstream.url, InferenceSettings(**(FAST | settings)))
        world.route(**(routes or {}))
        opened.append(http_door(world))
        return opened[-1].__enter__()

    yield make
    for door in opened:
        door.__exit__(None, None, None)


def _chat(number=0, model=BASE, **fields):
    return {"model": model, "messages": [{"role": "user", "content": f"say {number}"}]} | fields


def _ask(door, count, **fields):
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda number: door.post(PATH, _chat(number, **fields)), range(count)))


def _events(answer):
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def _said(events):
    return "".join(
        choice["delta"].get("content") or ""
        for event in events
        for choice in event.get("choices", ())
    )


def test_rest_that_a_model_asks_for_is_given_by_everybody(make_door, upstream):
    """Guarantee (F-14): nobody calls before Retry-After is over, and all are answered after it."""
    door = make_door()
    upstream.once(acts.refuse(429, retry_after=1))
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(door.post, PATH, _chat(0))
        await_true(lambda: upstream.calls("complete"))
        time.sleep(0.1)
        others = [pool.submit(door.post, PATH, _chat(number)) for number in range(1, 9)]
        assert [each.result().status_code for each in (first, *others)] == [200] * 9
    refused, *later = upstream.calls("complete")
    assert len(later) == 9
    assert min(call.at for call in later) - refused.at >= 1.0


def test_rest_may_be_asked_for_with_a_date(make_door, upstream):
    door = make_door(total_seconds=2, attempt_seconds=2)
    upstream.once(acts.refuse(503, retry_after="Fri, 31 Dec 2100 23:59:59 GMT"))
    answer = door.post(PATH, _chat())
    assert answer.status_code == 503
    assert float(answer.headers["retry-after"]) > 1e9
    assert len(upstream.calls("complete")) == 1


@pytest.mark.parametrize("act", [acts.refuse(503), acts.send_raw(b"garbage"), acts.not_found])
def test_failure_without_a_hint_says_nevertheless_when_to_come_back(make_door, upstream, act):
    door = make_door()
    upstream.always(act)
    answer = door.post(PATH, _chat())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


def test_rest_beyond_the_deadline_is_answered_at_once(make_door, upstream):
    door = make_door()
    upstream.once(acts.refuse(503, retry_after=60))
    assert door.post(PATH, _chat()).status_code == 503
    answer = door.post(PATH, _chat())
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "upstream_unavailable")
    assert 55 <= int(answer.headers["retry-after"]) <= 60
    assert len(upstream.calls("complete")) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_burst_costs_the_sick_model_few_calls_and_nobody_an_answer(make_door, upstream, status):
    """Guarantee (F-15, I7): the fallback answers, the breaker opens, and closes after the burst."""
    door = make_door(routes={"live_model": TUNED, "fallback_model": BASE})
    with upstream.during(acts.refuse(status), model=TUNED):
        began = time.monotonic()
        answers = [door.post(PATH, _chat(number, model="shop")) for number in range(60)]
        seconds = time.monotonic() - began
    assert [answer.status_code for answer in answers] == [200] * 60
    assert {answer.headers["x-model"] for answer in answers} == {BASE}
    # Five open it; then one trial after every pause of at least 0.2 s.
    assert 5 <= len(upstream.calls("complete", TUNED)) <= 5 + seconds / 0.2 + 1
    assert len(upstream.calls("complete", BASE)) == 60
    assert len(upstream.calls("complete")) <= 1.1 * 60 + 10
    await_true(
        lambda: door.post(PATH, _chat(model="shop")).headers["x-model"] == TUNED, seconds=2.0
    )
    before = len(upstream.calls("complete"))
    assert {answer.headers["x-model"] for answer in _ask(door, 20, model="shop")} == {TUNED}
    assert len(upstream.calls("complete")) == before + 20


def test_without_a_fallback_a_paused_model_is_503_at_once_with_retry_after(make_door, upstream):
    door = make_door(breaker_pause_seconds=30, breaker_longest_pause_seconds=30)
    upstream.always(acts.refuse(500))
    for number in range(2):
        assert door.post(PATH, _chat(number)).json()["error"]["code"] == "upstream_unavailable"
    assert len(upstream.calls("complete")) == 5
    began = time.monotonic()
    answers = _ask(door, 20)
    assert time.monotonic() - began < 5
    assert {(a.status_code, a.json()["error"]["code"]) for a in answers} == {(503, "model_paused")}
    assert all(20 <= int(answer.headers["retry-after"]) <= 30 for answer in answers)
    assert len(upstream.calls("complete")) == 5
    assert {line.record.status for line in door.world.await_lines(22)} == {"error"}


def test_failures_among_answers_are_repeated_for_a_tenth_of_the_calls(make_door, upstream):
    """Guarantee (I7): calls <= 1.1 x requests + 10, however long every other call fails."""
    door = make_door()
    for number in range(100):
        upstream.once(acts.refuse(503), acts.answer)
        assert door.post(PATH, _chat(number)).status_code in {200, 503}
    assert 110 < len(upstream.calls("complete")) <= 1.1 * 100 + 10


def test_trial_of_many_choices_is_one_request(make_door, upstream):
    door = make_door()
    upstream.once(*[acts.refuse(503)] * 5)
    for number in range(2):
        door.post(PATH, _chat(number))
    await_true(lambda: door.post(PATH, _chat(n=3)).status_code == 200, seconds=2.0)


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize(
    "act", [acts.hang, acts.half_a_body, acts.drip(20)], ids=["hang", "half", "drip"]
)
def test_model_that_does_not_end_is_ended_at_the_deadline(make_door, upstream, act, is_streamed):
    """Guarantee (F-16): at the deadline it is over, cancelled, recorded, and its seat is free."""
    door = make_door(total_seconds=1, attempt_seconds=1, max_running_per_model=1)
    door.post(PATH, _chat())
    upstream.once(act)
    began = time.monotonic()
    answer = door.post(PATH, _chat(stream=is_streamed))
    assert 0.9 < time.monotonic() - began < 2
    error = _events(answer)[-1] if answer.status_code == 200 else answer.json()
    assert error["error"]["code"] == "upstream_timeout"
    await_true(lambda: upstream.departures == 1)
    assert door.post(PATH, _chat()).status_code == 200
    statuses = [line.record.status for line in door.world.await_lines(3)]
    assert statuses == ["ok", "error", "ok"]


def test_seat_of_a_hanging_model_is_free_while_its_fallback_answers(make_door, upstream):
    door = make_door(
        routes={"live_model": TUNED, "fallback_model": BASE},
        total_seconds=6,
        attempt_seconds=0.5,
        max_running_per_model=1,
    )
    # The first request of a process takes longer, for tokenizer and load.
    await_true(lambda: door.post(PATH, _chat(model="shop")).headers["x-model"] == TUNED)
    door.post(PATH, _chat(7))
    warm = upstream.calls("complete", BASE)[-1].prompt
    upstream.once(acts.hang, model=TUNED)
    upstream.once(acts.slow(3), model=BASE)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(door.post, PATH, _chat(0, model="shop"))
        await_true(lambda: upstream.calls("complete", BASE)[-1].prompt != warm)
        assert door.post(PATH, _chat(1, model="shop")).headers["x-model"] == TUNED
        assert not slow.done()
        assert slow.result().headers["x-model"] == BASE


def test_loading_that_hangs_ends_at_the_deadline_and_is_begun_anew(make_door, upstream):
    door = make_door(total_seconds=1, attempt_seconds=1)
    upstream.once(acts.hang, on="load")
    answers = _ask(door, 4)
    assert {answer.json()["error"]["code"] for answer in answers} == {"upstream_timeout"}
    assert len(upstream.calls("load")) == 1
    await_true(lambda: upstream.departures == 1)
    assert door.post(PATH, _chat()).status_code == 200
    assert upstream.births == {(BASE, None): 1}


def _with_second(event):
    """The events of a good answer, with *event* in the place of the second."""
    return acts.stream(lambda events: [events[0], event, *events[2:]])


MALFORMED = {
    "truncated": acts.stream(lambda events: events[:2], is_cut=True),
    "out of order": acts.stream(lambda events: [events[1], events[0], *events[2:]]),
    "ended without its end": acts.stream(lambda events: events[:-1]),
    "invalid JSON": _with_second(b'data: {"content": "wo\n\n'),
    "no event": _with_second(b"dXta: nothing\n\n"),
    "number for a text": _with_second(b'data: {"content": 7, "stop": false}\n\n'),
    "text for a flag": _with_second(b'data: {"content": "a", "stop": "false"}\n\n'),
    "null": _with_second(b"data: null\n\n"),
    "unknown end": _with_second(
        b'data: {"content": "", "stop": true, "stop_type": "succeeded", "tokens_evaluated": 1,'
        b' "tokens_predicted": 1}\n\n'
    ),
    "end without its cost": _with_second(
        b'data: {"content": "", "stop": true, "stop_type": "eos"}\n\n'
    ),
    "error in the stream": _with_second(b'data: {"error": {"message": "no"}}\n\n'),
}


@pytest.mark.parametrize("act", MALFORMED.values(), ids=MALFORMED)
def test_stream_that_is_malformed_is_marked_and_never_recorded_as_complete(
    make_door, upstream, act
):
    """Guarantee (F-17): what came is passed on, then an error; the record is no answer's."""
    door = make_door(routes={"capture_content": True})
    upstream.once(act)
    *events, error = _events(door.post(PATH, _chat(model="shop", stream=True)))
    assert error["error"]["code"] == "upstream_broken"
    assert _said(events)
    assert all(choice["finish_reason"] is None for e in events for choice in e["choices"])
    (line,) = door.world.await_lines(1)
    assert (line.record.status, line.record.error_code) == ("error", "upstream_broken")
    assert len(upstream.calls("complete")) == 1


@pytest.mark.parametrize("copies", ["words", "earlier words", "end", "all"])
def test_event_that_comes_twice_is_heard_once(make_door, upstream, copies):
    """Guarantee (F-17): duplicates change neither the words nor the tokens that are counted."""
    door = make_door()
    good = _events(door.post(PATH, _chat(stream=True)))
    edit = {
        "words": lambda events: [events[0], *events[:2], *events[1:]],
        "earlier words": lambda events: [*events[:-1], events[0], events[1], events[-1]],
        "end": lambda events: [*events, events[-1]],
        "all": lambda events: [event for event in events for _ in range(2)],
    }[copies]
    upstream.once(acts.stream(edit), acts.stream(edit))
    again = _events(door.post(PATH, _chat(stream=True)))
    assert _said(again) == _said(good)
    first, second = (line.record for line in door.world.await_lines(2))
    assert (second.status, second.output_tokens) == ("ok", first.output_tokens)


def test_end_that_comes_twice_does_not_end_another_choice(make_door, upstream):
    door = make_door()
    upstream.once(acts.stream(lambda events: [*events, events[-1]]), acts.slow(0.3))
    events = _events(door.post(PATH, _chat(stream=True, n=2)))
    ends = [
        choice["index"]
        for event in events
        for choice in event["choices"]
        if choice["finish_reason"]
    ]
    assert sorted(ends) == [0, 1]


def _whole(**changes):
    good = {"content": "a", "stop": True, "stop_type": "eos"} | {
        "tokens_evaluated": 1,
        "tokens_predicted": 1,
    }
    return json.dumps(good | changes).encode()


@pytest.mark.parametrize(
    "body",
    [
        b'{"content": "half of it", "stop": false}',
        _whole(content=7),
        _whole(stop="true"),
        _whole(stop_type="succeeded"),
        _whole(tokens_predicted="many"),
        b'{"content": "a", "stop": true, "stop_type": "eos"}',
        b"\xff\xfe",
    ],
)
def test_whole_answer_that_cannot_be_read_is_no_answer(make_door, upstream, body):
    door = make_door()
    upstream.once(*[acts.send_raw(body)] * 3)
    answer = door.post(PATH, _chat())
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "upstream_broken")
    (line,) = door.world.await_lines(1)
    assert line.record.status == "error"


def test_streams_that_break_again_and_again_open_the_breaker(make_door, upstream):
    door = make_door(breaker_pause_seconds=30, breaker_longest_pause_seconds=30)
    upstream.always(MALFORMED["truncated"])
    for number in range(5):
        _events(door.post(PATH, _chat(number, stream=True)))
    assert door.post(PATH, _chat()).json()["error"]["code"] == "model_paused"


def test_answer_that_was_lost_is_asked_for_again(make_door, upstream):
    door = make_door()
    upstream.once(acts.lose_answer)
    assert door.post(PATH, _chat()).status_code == 200
    assert list(upstream.generated.values()) == [2]
    (line,) = door.world.await_lines(1)
    assert line.record.status == "ok"


@pytest.mark.parametrize("act", [acts.lose_answer, acts.refuse(503)])
def test_many_calls_that_end_together_do_not_open_the_breaker(make_door, upstream, act):
    """A process that dies takes all its calls with it; they are repeated and answered."""
    door = make_door(breaker_pause_seconds=30, breaker_longest_pause_seconds=30)
    door.post(PATH, _chat())
    together = threading.Barrier(8, timeout=20)

    def end_together(exchange):
        together.wait()
        act(exchange)

    upstream.once(*[end_together] * 8)
    assert {answer.status_code for answer in _ask(door, 8)} == {200}
    assert len(upstream.calls("complete")) == 17


def test_many_calls_that_wait_in_vain_open_the_breaker(make_door, upstream):
    door = make_door(
        total_seconds=1,
        attempt_seconds=1,
        breaker_pause_seconds=30,
        breaker_longest_pause_seconds=30,
    )
    door.post(PATH, _chat())
    upstream.always(acts.hang)
    assert {answer.json()["error"]["code"] for answer in _ask(door, 6)} == {"upstream_timeout"}
    assert door.post(PATH, _chat()).json()["error"]["code"] == "model_paused"


def test_load_whose_answer_was_lost_makes_no_second_resident(make_door, upstream):
    """Guarantee (F-18): it is loaded again, which finds what is there."""
    door = make_door()
    upstream.once(acts.lose_answer, on="load")
    assert {answer.status_code for answer in _ask(door, 8)} == {200}
    assert len(upstream.calls("load")) == 2
    assert upstream.births == {(BASE, None): 1}
    assert len(upstream.residents) == 1


@pytest.mark.parametrize(
    ("on", "act", "code"),
    [
        ("load", acts.say_state("succeeded"), "model_not_ready"),
        ("load", acts.say_state("starting"), "model_not_ready"),
        ("load", acts.send_raw(b'{"model": "m"}'), "serving_broken"),
        ("load", acts.send_raw(b"ready"), "serving_broken"),
        ("load", acts.refuse(429), "server_error"),
        ("health", acts.not_found, "model_not_answering"),
        ("complete", acts.not_found, "model_moved"),
    ],
)
def test_model_that_is_said_to_be_ready_and_is_not_is_waited_for(
    make_door, upstream, on, act, code
):
    """Guarantee (F-19): no answer is made up, and it is found as soon as it is there."""
    door = make_door(total_seconds=5, attempt_seconds=2)
    with upstream.during(act, on=on):
        answer = door.post(PATH, _chat())
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, code)
    assert len(upstream.calls(on)) <= 3
    (line,) = door.world.await_lines(1)
    assert (line.record.status, line.record.error_code) == ("error", code)
    await_true(lambda: door.post(PATH, _chat()).status_code == 200, seconds=3.0)


def test_model_server_that_restarts_is_found_again(make_door, upstream):
    door = make_door()
    assert door.post(PATH, _chat()).status_code == 200
    upstream.stop()
    assert door.post(PATH, _chat()).status_code == 503
    upstream.start()
    await_true(lambda: door.post(PATH, _chat()).status_code == 200, seconds=3.0)


def test_canary_that_fails_falls_back_and_keeps_its_assignment(make_door, upstream):
    door = make_door(
        routes={
            "canary_release": RELEASES["canary"],
            "canary_model": TUNED,
            "canary_share": 1.0,
        }
    )
    upstream.always(acts.refuse(500), model=TUNED)
    answers = [door.post(PATH, _chat(number, model="shop")) for number in range(20)]
    assert {answer.headers["x-release"] for answer in answers} == {RELEASES["canary"]}
    assert {answer.status_code for answer in answers} == {200}
    assert all(line.record.fallback for line in door.world.await_lines(20))
