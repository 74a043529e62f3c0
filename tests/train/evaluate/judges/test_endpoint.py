"""A model behind an endpoint, asked over a real connection to a server that fails."""

from __future__ import annotations

import base64
import io
import itertools
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from minigpt4.core.errors import UsageError
from minigpt4.train.evaluate.judges import endpoint as endpoint_module
from minigpt4.train.evaluate.judges.client import ModelError, Request
from minigpt4.train.evaluate.judges.endpoint import Endpoint, EndpointModel, Pace
from minigpt4.train.evaluate.judges.response_cache import ResponseCache
from minigpt4.train.evaluate.judges.spending import CapReached, Prices, Spending, estimate

Serve = Callable[..., Any]
KEY = "sk-very-secret-1234567890"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    import openai._base_client as client

    monkeypatch.setattr(client, "INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr(endpoint_module, "FIRST_DELAY_S", 0.01)


def model_at(server: Any, **options: Any) -> EndpointModel:
    pace = Pace(**{"timeout_s": 0.5, **{name: options.pop(name) for name in list(options) if name in PACE}})
    spending = options.pop("spending", None)
    return EndpointModel(Endpoint("small", server.url, options.pop("key", None)), pace, spending, **options)


PACE = ("concurrency", "requests_per_minute", "retries", "timeout_s")


def requests(count: int, **options: Any) -> list[Request]:
    return [Request(f"question {number}", **options) for number in range(count)]


def echo(prompt: str) -> str:
    return f"answer to {prompt}"


def image_file(kind: str = "JPEG", **options: Any) -> bytes:
    with io.BytesIO() as drawn:
        Image.new("RGB", (6, 4), "red").save(drawn, kind, **options)
        return drawn.getvalue()


def test_every_request_is_completed_once(serve: Serve) -> None:
    server = serve(echo)
    found = dict(model_at(server).complete(requests(20)))
    assert found == {number: f"answer to question {number}" for number in range(20)}
    assert sorted(server.prompts) == sorted(f"question {number}" for number in range(20))
    assert {one["temperature"] for one in server.requests} == {0}


@pytest.mark.parametrize("fault", ["429 0.05", "500", "503", "slow", "cut", "half", "broken", "empty"])
def test_what_may_pass_is_tried_again_and_nothing_is_lost_or_doubled(serve: Serve, fault: str) -> None:
    server = serve(echo, [fault] * 3)
    found = list(model_at(server, concurrency=2).complete(requests(6)))
    assert sorted(found) == [(number, f"answer to question {number}") for number in range(6)]
    assert len(server.requests) == 9, "six, and three again"


def test_retry_after_is_waited_for(serve: Serve) -> None:
    server = serve(echo, ["429 0.7"])
    assert len(list(model_at(server).complete(requests(1)))) == 1
    first, second = server.times
    assert second - first >= 0.7


def test_delays_grow(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_module, "FIRST_DELAY_S", 0.05)
    server = serve(echo, ["broken"] * 4)
    assert len(list(model_at(server).complete(requests(1)))) == 1
    waits = [later - earlier for earlier, later in itertools.pairwise(server.times)]
    assert all(wait >= 0.75 * 0.05 * 2**number for number, wait in enumerate(waits))


def test_one_request_that_always_fails_does_not_stop_the_others(serve: Serve) -> None:
    server = serve(echo, refuses=lambda one: {"message": "too long"} if "2" in str(one["messages"]) else None)
    refused: dict[int, str] = {}
    found = dict(model_at(server).complete(requests(5), refused.__setitem__))
    assert sorted(found) == [0, 1, 3, 4]
    assert refused == {2: f"The endpoint {server.url} refused with status 400: too long."}
    with pytest.raises(ModelError, match="too long"):
        list(model_at(server).complete(requests(5)))


def test_a_server_that_is_down_is_given_up_after_a_few_requests(serve: Serve) -> None:
    server = serve(echo, ["500"] * 1000)
    refused: dict[int, str] = {}
    with pytest.raises(ModelError, match="status 500, 2 times in a row: not now") as failed:
        list(model_at(server, concurrency=1, retries=1).complete(requests(50), refused.__setitem__))
    assert "the same command continues" in str(failed.value)
    assert len(server.requests) == 6
    assert sorted(refused) == [0, 1]


def test_an_address_where_nobody_listens_is_said_in_one_sentence(serve: Serve) -> None:
    model = EndpointModel(Endpoint("small", "http://127.0.0.1:9/v1"), Pace(retries=0))
    with pytest.raises(ModelError, match=r"http://127.0.0.1:9/v1 cannot be reached"):
        list(model.complete(requests(3), lambda *_: None))


def test_a_time_out_is_said(serve: Serve) -> None:
    server = serve(echo, ["slow"] * 3)
    with pytest.raises(ModelError, match=r"did not answer within 0.3 s"):
        list(model_at(server, timeout_s=0.3, retries=0).complete(requests(1)))


def test_what_was_completed_before_a_failure_is_not_asked_again(serve: Serve) -> None:
    server = serve(echo)
    server.refuses = lambda _one: server.faults.extend(["500"] * 99) if len(server.prompts) == 4 else None
    found: dict[int, str] = {}
    with pytest.raises(ModelError):
        for index, text in model_at(server, concurrency=1, retries=0).complete(requests(10), lambda *_: None):
            found[index] = text
    assert sorted(found) == [0, 1, 2, 3]
    server.refuses, server.faults = lambda _one: None, []
    assert len(list(model_at(server).complete(requests(10)))) == 10
    assert sorted(server.prompts) == sorted({f"question {number}" for number in range(10)})


def test_a_rerun_costs_nothing_and_another_model_or_picture_is_another_request(serve: Serve) -> None:
    server = serve(echo)
    first = dict(model_at(server).complete(requests(5)))
    model = model_at(server)
    assert dict(model.complete(requests(5))) == first
    assert (len(server.requests), model.spending.requests) == (5, 0)
    other = EndpointModel(Endpoint("large", server.url))
    for again in (other.complete(requests(1)), model.complete(requests(1, max_tokens=9))):
        assert len(list(again)) == 1
    for color in ("PNG", "JPEG"):
        assert len(list(model.complete(requests(1, picture=image_file(color))))) == 1
    assert len(server.requests) == 9


def test_a_damaged_cache_file_is_asked_again(serve: Serve, tmp_path: Path) -> None:
    server = serve(echo)
    for _ in range(2):
        cache = ResponseCache(server.url, "small", tmp_path / "cache")
        assert dict(model_at(server, cache=cache).complete(requests(1))) == {0: "answer to question 0"}
        (kept,) = (tmp_path / "cache").rglob("*.json")
        kept.write_text('{"text": "ans')
    assert len(server.requests) == 2


@pytest.mark.parametrize("concurrency", [1, 3])
def test_so_many_are_under_way_at_once(serve: Serve, concurrency: int) -> None:
    server = serve(echo, delay=0.05)
    assert len(list(model_at(server, concurrency=concurrency).complete(requests(9)))) == 9
    assert server.most_busy == concurrency


def test_no_minute_has_more_requests_than_allowed_repeated_ones_included(serve: Serve) -> None:
    server = serve(echo, ["500"])
    begun = time.monotonic()
    assert len(list(model_at(server, requests_per_minute=600).complete(requests(5)))) == 5
    assert time.monotonic() - begun >= 0.5, "six requests, 0.1 s apart"
    assert len(server.requests) == 6


def test_the_cost_cap_stops_before_it_is_exceeded_and_the_run_resumes(serve: Serve) -> None:
    server = serve(echo)
    asked = [Request(f"{number} " + "word " * 66) for number in range(20)]
    prices = Prices(input=10_000.0, output=0.0)  # 100 tokens cost 1
    found: dict[int, str] = {}
    spending = Spending(prices, max_cost=3.5)
    with pytest.raises(CapReached, match=r"before --max-cost 3.5 was exceeded: \d requests cost"):
        for index, text in model_at(server, spending=spending).complete(asked):
            found[index] = text
    assert (spending.cost, len(server.requests)) == (pytest.approx(3), 3)
    assert len(found) == 3, "what was paid for is kept"
    again = Spending(prices, max_cost=100.0)
    assert len(dict(model_at(server, spending=again).complete(asked))) == 20
    assert len(server.requests) == 20
    assert again.cost == pytest.approx(20 - len(found))


def test_the_cap_of_requests_stops_cleanly(serve: Serve) -> None:
    server = serve(echo)
    found: list[int] = []
    with pytest.raises(CapReached, match="--max-requests 7"):
        for index, _ in model_at(server, spending=Spending(max_requests=7)).complete(requests(20)):
            found.append(index)
    assert (len(found), len(server.requests)) == (7, 7)


def test_an_estimate_is_not_below_what_it_costs(serve: Serve) -> None:
    # 60 characters are 15 to 20 tokens, 500 of the answer at most, and two pictures.
    expected = estimate([*requests(2, picture=b"x", max_tokens=250)], Prices(1.0, 10.0))
    assert (expected.requests, expected.output_tokens) == (2, 500)
    assert 2 * 1105 < expected.input_tokens < 2 * 1105 + 60
    assert expected.cost == pytest.approx((expected.input_tokens + 5000) / 1e6)
    assert estimate(requests(3)).cost is None


@pytest.mark.parametrize(("key", "sentence"), [(KEY, "refuses the key"), (None, "wants a key")])
def test_a_wrong_key_is_one_sentence_without_it(
    serve: Serve, caplog: pytest.LogCaptureFixture, tmp_path: Path, key: str | None, sentence: str
) -> None:
    caplog.set_level(logging.DEBUG)
    server = serve(echo, key="another")
    model = model_at(server, key=key, cache=ResponseCache(server.url, "small", tmp_path))
    with pytest.raises(ModelError, match=sentence) as failed:
        list(model.complete(requests(2)))
    assert failed.value.__cause__ is None and failed.value.__suppress_context__
    shown = [str(failed.value), repr(failed.value), caplog.text, repr(vars(model)), model.name]
    assert KEY not in "".join(shown)
    assert list(tmp_path.rglob("*.json")) == []


def test_a_key_that_a_server_repeats_is_not_shown(serve: Serve) -> None:
    server = serve(echo, refuses=lambda _one: {"message": f"bad request from {KEY}"})
    with pytest.raises(ModelError, match="bad request from KEY"):
        list(model_at(server, key=KEY).complete(requests(1)))


def test_models_that_know_neither_temperature_nor_max_tokens_are_asked_in_their_way(serve: Serve) -> None:
    def refuses(one: dict[str, Any]) -> dict[str, Any] | None:
        for name in ("max_tokens", "temperature"):
            if name in one:
                return {"message": f"Unsupported parameter: {name}", "param": name}
        return None

    server = serve(echo, refuses=refuses)
    assert len(list(model_at(server, concurrency=1).complete(requests(4, max_tokens=30)))) == 4
    assert len(server.requests) == 6, "the form is found out once"
    assert server.requests[-1]["max_completion_tokens"] == 30


def test_a_picture_is_sent_before_the_text_and_upright(serve: Serve) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was held on its side
    server = serve(echo)
    files = [image_file("JPEG"), image_file("JPEG", exif=turned), image_file("BMP")]
    found = dict(model_at(server, concurrency=1).complete([Request("what?", file) for file in files]))
    assert found == dict.fromkeys(range(3), "answer to what?")
    sent = []
    for one in server.requests:
        picture, text = one["messages"][0]["content"]
        assert text == {"type": "text", "text": "what?"}
        head, _, body = picture["image_url"]["url"].partition(",")
        sent.append((head, base64.b64decode(body)))
    assert [head for head, _ in sent] == [f"data:image/{kind};base64" for kind in ("jpeg", "png", "png")]
    assert sent[0][1] == files[0]
    assert [Image.open(io.BytesIO(data)).size for _, data in sent] == [(6, 4), (4, 6), (6, 4)]


def test_what_is_no_picture_is_refused_and_not_sent(serve: Serve) -> None:
    server = serve(echo)
    refused: dict[int, str] = {}
    assert list(model_at(server).complete([Request("what?", b"no picture")], refused.__setitem__)) == []
    assert server.requests == [] and "picture" in refused[0]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("m", "localhost:8000"), "'localhost:8000' is not an endpoint's address"),
        (("m", "http://user:" + KEY + "@host/v1"), "holds a password"),
        ((" ", "http://host/v1"), "no name"),
        (("m", "http://host/v1", "two\nlines"), "no key has"),
    ],
)
def test_an_impossible_endpoint_is_refused_without_its_key(arguments: Any, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as failed:
        Endpoint(*arguments)
    assert KEY not in str(failed.value)


def test_an_interrupt_ends_a_long_wait_at_once(serve: Serve) -> None:
    import signal
    import threading

    server = serve(echo, ["429 60"])
    timer = threading.Timer(0.5, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    begun = time.monotonic()
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        list(model_at(server).complete(requests(1)))
    assert time.monotonic() - begun < 5


def test_without_the_client_the_way_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ModelError, match=r"pip install 'minigpt4\[eval\]'"):
        EndpointModel(Endpoint("small"))
