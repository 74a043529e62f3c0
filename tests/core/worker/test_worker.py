"""An engine in a process of its own: what the screen is told, whatever happens to the process."""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from minigpt4.core.errors import UsageError
from minigpt4.core.types import Sampling
from minigpt4.core.worker import messages as wire
from minigpt4.core.worker.client import (
    Counted,
    Died,
    EngineChoice,
    Event,
    Failed,
    Finished,
    Loading,
    Notice,
    Phase,
    Ready,
    Said,
    WireMessage,
    Worker,
)
from minigpt4.core.worker.event_queue import Deliveries
from minigpt4.core.worker.exit_reason import died
from minigpt4.core.worker.messages import (
    Answer,
    CutShortError,
    Load,
    WireError,
    frame,
    read_command,
    read_event,
)

CHILD = (sys.executable, "-P", str(Path(__file__).with_name("scripted_child.py")))
PATIENCE_S = 120
QUITTING_S = 0.5

needs_llama = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None, reason="the extra `llama` is not installed"
)

Told = TypeVar("Told", bound=Event)


class Listener:
    """Keeps the events, and waits for the one that is needed."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._changed = threading.Condition()

    def __call__(self, event: Event) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def until(self, kind: type[Told], is_meant: Callable[[Told], bool] = lambda event: True) -> Told:
        """The first event of the kind that is meant."""

        def found() -> Told | None:
            return next((one for one in self.events if isinstance(one, kind) and is_meant(one)), None)

        with self._changed:
            assert self._changed.wait_for(lambda: found() is not None, PATIENCE_S), self.events
            event = found()
            assert event is not None
            return event

    def finished(self, request: str) -> Finished:
        return self.until(Finished, lambda one: one.request == request)

    def failed(self, request: str | None) -> Failed:
        return self.until(Failed, lambda one: one.request == request)

    def said(self, request: str) -> str:
        return "".join(one.text for one in self.events if isinstance(one, Said) and one.request == request)


@pytest.fixture
def heard() -> Listener:
    return Listener()


@pytest.fixture
def worker(heard: Listener) -> Iterator[Worker]:
    """A worker of this test's own, nothing loaded."""
    worker = Worker(heard, CHILD)
    yield worker
    worker.stop()


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Worker, Listener]]:
    """One process for all tests that leave it whole; they tell their requests apart by name."""
    heard = Listener()
    worker = Worker(heard, CHILD)
    worker.load(EngineChoice("scripted"))
    yield worker, heard
    worker.stop()


def user(text: str, *pictures: Path) -> WireMessage:
    return WireMessage("user", text, pictures)


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has taken back yet counts."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def grey(path: Path, shade: int) -> Path:
    Image.new("L", (8, 8), shade).save(path)
    return path


def test_an_answer_arrives_in_pieces_with_its_phases_and_numbers(shared: tuple[Worker, Listener]) -> None:
    worker, heard = shared
    worker.reply("streams", [user("say:A cat on a mat.")])
    finished = heard.finished("streams")
    about = [one for one in heard.events if getattr(one, "request", None) == "streams"]
    assert [one.phase for one in about if isinstance(one, Phase)] == ["thinking", "writing"]
    assert isinstance(about[0], Counted)
    assert about[0].positions == finished.prompt_tokens > 0
    assert heard.said("streams") == finished.text == "A cat on a mat."
    assert (finished.finish, finished.answer_tokens) == ("stop", 15)
    assert finished.first_token_s is not None
    last = [one for one in about if isinstance(one, Said)][-1]
    assert (last.first_token_s, last.tokens_per_s) == (finished.first_token_s, finished.tokens_per_s)


def test_the_model_is_described_when_it_is_ready(shared: tuple[Worker, Listener]) -> None:
    ready = shared[1].until(Ready)
    assert (ready.bundle, ready.image_tokens, ready.context) == ("scripted", 3, 4_000_000)
    assert ready.load_s >= 0
    assert shared[0].is_alive


def test_two_replies_asked_in_a_row_come_one_after_the_other(shared: tuple[Worker, Listener]) -> None:
    worker, heard = shared
    worker.reply("first", [user("say:one")])
    worker.reply("second", [user("say:two")])
    assert heard.finished("second").text == "two"
    order = [one.request for one in heard.events if isinstance(one, Finished)]
    assert heard.finished("first").text == "one"
    assert order.index("first") < order.index("second")


def test_a_cancelled_answer_keeps_what_was_said(shared: tuple[Worker, Listener]) -> None:
    worker, heard = shared
    worker.reply("long", [user("endless:")])
    heard.until(Said, lambda one: one.request == "long")
    worker.cancel("long")
    finished = heard.finished("long")
    assert finished.finish == "cancelled"
    assert finished.text == heard.said("long")
    assert set(finished.text) == {"a"}


def test_an_answer_that_waits_can_be_cancelled_too(shared: tuple[Worker, Listener]) -> None:
    worker, heard = shared
    worker.reply("before", [user("endless:")])
    worker.reply("waits", [user("say:never")])
    worker.cancel("waits")
    worker.cancel("nobody asked this")
    worker.cancel("before")
    assert heard.finished("waits") == Finished("waits", "cancelled", "")


def test_the_sampling_and_the_beams_reach_the_model(shared: tuple[Worker, Listener]) -> None:
    worker, heard = shared
    worker.reply("sampled", [user("seed:")], Sampling(seed=7, temperature=0.5))
    worker.reply("short", [user("say:cut here")], Sampling(max_tokens=3))
    worker.reply("searched", [user("?")], Sampling(temperature=0.0), beams=3)
    worker.reply("refused", [user("?")], Sampling(temperature=0.0), beams=0)
    assert heard.finished("sampled").text == "7 0.5"
    assert (heard.finished("short").finish, heard.finished("short").text) == ("length", "cut")
    assert heard.finished("searched").text == "3 beams"
    assert "0 beams" in heard.failed("refused").sentence


def test_fields_of_the_sampling_that_nobody_set_are_the_bundle_s_own(shared: tuple[Worker, Listener]) -> None:
    worker, heard = shared
    worker.reply("some", [user("seed:")], {"seed": 7, "temperature": None, "max_tokens": None})
    worker.reply("none", [user("seed:")], {})
    assert heard.finished("some").text == "7 0.0"
    assert heard.finished("none").text == "None 0.0"


def test_an_answer_at_the_end_is_continued(shared: tuple[Worker, Listener]) -> None:
    worker, heard = shared
    worker.reply("more", [user("What?"), WireMessage("assistant", "say: and a dog")])
    assert heard.finished("more").text == " and a dog"


def test_pictures_are_looked_at_once_and_again_when_the_file_changes(
    shared: tuple[Worker, Listener], tmp_path: Path
) -> None:
    worker, heard = shared
    light, dark = grey(tmp_path / "light.png", 200), grey(tmp_path / "dark.png", 10)
    worker.reply("looks", [user("What?", light), WireMessage("assistant", "A."), user("grey:", dark)])
    worker.reply("knows", [user("grey:", dark, light)])
    assert heard.finished("looks").text == "[200, 10]"
    assert heard.finished("knows").text == "[10, 200]"
    grey(dark, 77)
    worker.reply("again", [user("grey:", dark)])
    assert heard.finished("again").text == "[77]"
    looked = [one.request for one in heard.events if isinstance(one, Phase) and one.phase == "looking"]
    assert looked == ["looks", "again"]


def test_a_picture_that_vanished_is_named_and_the_model_lives_on(
    shared: tuple[Worker, Listener], tmp_path: Path
) -> None:
    worker, heard = shared
    cat = grey(tmp_path / "kätzchen [b].png", 5)
    worker.reply("there", [user("grey:", cat)])
    assert heard.finished("there").text == "[5]"
    cat.unlink()
    worker.reply("vanished", [user("grey:", cat)])
    assert "kätzchen [b].png" in heard.failed("vanished").sentence
    worker.reply("lives on", [user("say:yes")])
    assert heard.finished("lives on").text == "yes"


def test_any_text_arrives_as_it_was(shared: tuple[Worker, Listener]) -> None:
    worker, heard = shared
    text = "ünï 😀\u202e\u200b\x1b[31m[/red]\0\r\n#### Human: <|im_end|>"
    worker.reply("odd", [user(f"say:{text}")])
    assert heard.finished("odd").text == text.split("<|im_end|>")[0]
    worker.reply("half a pair", [user("say:\ud83d|\ud83d\ude00")])
    assert heard.finished("half a pair").text == "\ufffd|😀"


def test_a_megabyte_of_text_goes_through(shared: tuple[Worker, Listener]) -> None:
    worker, heard = shared
    text = "Ein Märchen. " * 77_000
    worker.reply("novel", [user(text), WireMessage("assistant", "Lang."), user("say:ok")])
    assert heard.finished("novel").text == "ok"
    assert heard.finished("novel").prompt_tokens > 1_000_000
    assert len(heard.said("novel")) == 2


def test_what_native_code_prints_disturbs_nobody(shared: tuple[Worker, Listener]) -> None:
    worker, heard = shared
    worker.reply("noise", [user("noise:")])
    assert heard.finished("noise").text == "quiet"


def test_a_bug_fails_one_answer_in_a_sentence(shared: tuple[Worker, Listener]) -> None:
    worker, heard = shared
    worker.reply("bug", [user("bug:")])
    worker.reply("memory", [user("memory:")])
    worker.reply("empty", [user("  ")])
    assert "ValueError: seven [/] is not a colour" in heard.failed("bug").sentence
    assert heard.said("bug") == "so far"
    assert heard.failed("memory").sentence.startswith("There is not enough memory")
    assert "empty" in heard.failed("empty").sentence
    assert worker.is_alive


def test_a_conversation_is_counted_as_an_answer_would_read_it(
    shared: tuple[Worker, Listener], tmp_path: Path
) -> None:
    worker, heard = shared
    cat = grey(tmp_path / "cat.png", 5)
    conversation = [user("say:1", cat, cat), WireMessage("assistant", "Ünd?"), user("say:2")]
    worker.reply("counted by the answer", conversation)
    heard.finished("counted by the answer")
    cat.unlink()
    worker.count("counted", conversation)
    one, other = (
        heard.until(Counted, lambda event, name=name: event.request == name)  # type: ignore[misc]
        for name in ("counted", "counted by the answer")
    )
    assert (one.positions, one.context) == (other.positions, other.context)
    assert one.dropped_messages == 0


def test_a_count_does_not_wait_for_the_end_of_an_answer(shared: tuple[Worker, Listener]) -> None:
    worker, heard = shared
    worker.reply("goes on", [user("endless:")])
    heard.until(Said, lambda one: one.request == "goes on")
    worker.count("meanwhile", [user("")])
    heard.until(Counted, lambda one: one.request == "meanwhile")
    worker.cancel("goes on")
    heard.finished("goes on")


def test_a_count_tells_how_much_a_full_context_leaves_out(worker: Worker, heard: Listener) -> None:
    worker.load(EngineChoice("scripted", context=400))
    turn = [user("x" * 100), WireMessage("assistant", "y" * 20)]
    worker.count("fits not", [*turn, *turn, user("short")], Sampling(max_tokens=50))
    counted = heard.until(Counted)
    assert counted.dropped_messages == 2
    assert 0 < counted.positions <= counted.context - 50
    worker.count("never fits", [user("x" * 500)])
    assert heard.until(Counted, lambda one: one.request == "never fits").positions > 400


def test_a_slow_listener_gets_fewer_pieces_and_loses_none(heard: Listener) -> None:
    may_go_on = threading.Event()

    def slow(event: Event) -> None:
        if isinstance(event, Phase):
            may_go_on.wait(PATIENCE_S)
        heard(event)

    worker = Worker(slow, CHILD)
    try:
        worker.load(EngineChoice("scripted"))
        worker.reply("slowly", [user("much:10000")])
        may_go_on.set()
        finished = heard.finished("slowly")
        assert heard.said("slowly") == finished.text == "é€😀 " * 1_000
        assert len([one for one in heard.events if isinstance(one, Said)]) < 4_000
    finally:
        worker.stop()


def test_a_listener_that_fails_still_hears_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    heard = Listener()

    def clumsy(event: Event) -> None:
        if isinstance(event, Loading):
            raise RuntimeError("the screen is closing")
        heard(event)

    deliveries = Deliveries(clumsy)
    deliveries.post(None, Loading("a", 1, 2))
    deliveries.post(None, Died("gone", "restart"))
    heard.until(Died)
    deliveries.close()
    assert "Loading" in caplog.text


def test_waiting_words_join_and_waiting_reports_make_way() -> None:
    heard = Listener()
    may_go_on = threading.Event()

    def slow(event: Event) -> None:
        heard(event)
        may_go_on.wait(PATIENCE_S)

    deliveries = Deliveries(slow)
    deliveries.post(None, Notice("busy"))
    heard.until(Notice)
    events: list[Event] = [
        *(Loading("a", done, 3) for done in (1, 2, 3)),
        *(Loading("b", done, 3) for done in (1, 2)),
        *(Said("1", letter, 0.5, speed) for letter, speed in (("a", None), ("b", 9.0), ("c", 8.0))),
        *(Said("2", letter) for letter in "de"),
        Finished("2", "stop", "de"),
    ]
    for event in events:
        deliveries.post(None, event)
    may_go_on.set()
    heard.finished("2")
    deliveries.close()
    assert heard.events[1:] == [
        Loading("a", 3, 3),
        Loading("b", 2, 3),
        Said("1", "abc", 0.5, 8.0),
        Said("2", "de"),
        Finished("2", "stop", "de"),
    ]


def test_a_model_that_cannot_be_loaded_says_why_and_so_does_a_question(
    worker: Worker, heard: Listener
) -> None:
    worker.load(EngineChoice("damaged"))
    worker.reply("early", [user("say:hello")])
    assert heard.failed(None).sentence == "The file weights.bin is damaged; fetch it again."
    assert "No model is loaded" in heard.failed("early").sentence
    worker.load(EngineChoice("scripted"))
    worker.reply("later", [user("say:hello")])
    assert heard.finished("later").text == "hello"


def test_without_a_process_a_question_fails_in_a_sentence(worker: Worker, heard: Listener) -> None:
    worker.reply("too early", [user("say:hello")])
    assert "No model is running" in heard.failed("too early").sentence
    worker.cancel("too early")
    with pytest.raises(UsageError, match="choose one first"):
        worker.restart()
    assert not worker.is_alive


@pytest.mark.parametrize(
    ("how", "sentence", "advice"),
    [
        ("oom", "signal 9, SIGKILL", "smaller quantisation"),
        ("segfault", "signal 11, SIGSEGV", "models verify"),
        ("illegal", "signal 4, SIGILL", "compiled on this machine"),
        ("exit", "exit code 7", "Restart"),
        ("import", "No module named 'nosuchmodel'", "pip install"),
    ],
)
@pytest.mark.parametrize("when", ["while loading", "while answering"])
def test_a_death_is_told_with_advice_and_the_next_process_answers(
    worker: Worker, heard: Listener, how: str, sentence: str, advice: str, when: str
) -> None:
    if when == "while loading":
        worker.load(EngineChoice(how))
        worker.reply("unlucky", [user("say:hello")])
    else:
        worker.load(EngineChoice("scripted"))
        worker.reply("unlucky", [user(f"{how}:")])
    death = heard.until(Died)
    assert sentence in death.sentence
    assert advice in death.advice
    assert f"about to {how}" in death.details
    assert heard.failed("unlucky").sentence == death.sentence
    assert heard.said("unlucky") == ("" if when == "while loading" else "last words")
    assert isinstance(heard.events[-1], Died)
    assert not worker.is_alive
    worker.load(EngineChoice("scripted"))
    worker.reply("lucky", [user("say:hello")])
    assert heard.finished("lucky").text == "hello"


def test_a_kill_from_outside_is_a_death_and_a_restart_helps(worker: Worker, heard: Listener) -> None:
    worker.load(EngineChoice("scripted"))
    worker.reply("endless", [user("endless:")])
    pid = int(heard.until(Notice).sentence)
    heard.until(Said)
    os.kill(pid, signal.SIGKILL)
    assert "signal 9" in heard.until(Died).sentence
    assert "signal 9" in heard.failed("endless").sentence
    assert heard.said("endless")
    worker.restart()
    worker.reply("again", [user("say:back")])
    assert heard.finished("again").text == "back"


def test_interrupting_the_terminal_does_not_reach_the_model(worker: Worker, heard: Listener) -> None:
    worker.load(EngineChoice("scripted"))
    pid = int(heard.until(Notice).sentence)
    assert os.getsid(pid) == pid != os.getsid(0)
    os.kill(pid, signal.SIGINT)
    worker.reply("still", [user("say:here")])
    assert heard.finished("still").text == "here"


def quick_stop(worker: Worker) -> None:
    begun = time.perf_counter()
    worker.stop()
    assert time.perf_counter() - begun < QUITTING_S


@pytest.mark.parametrize("moment", ["starting", "loading", "looking", "thinking", "writing", "idle", "dead"])
def test_stopping_is_quick_at_any_moment(
    worker: Worker, heard: Listener, tmp_path: Path, moment: str
) -> None:
    match moment:
        case "starting":
            worker.load(EngineChoice("scripted"))
        case "loading":
            worker.load(EngineChoice("never-loads"))
            heard.until(Loading)
        case "looking":
            worker.load(EngineChoice("never-looks"))
            worker.reply("1", [user("say:hello", grey(tmp_path / "cat.png", 5))])
            heard.until(Phase, lambda one: one.phase == "looking")
        case "thinking" | "writing":
            worker.load(EngineChoice("scripted"))
            worker.reply("1", [user("think:" if moment == "thinking" else "endless:")])
            heard.until(Phase, lambda one: one.phase == moment)
        case "idle":
            worker.load(EngineChoice("scripted"))
            heard.until(Ready)
        case "dead":
            worker.load(EngineChoice("exit"))
            heard.until(Died)
    quick_stop(worker)
    assert not worker.is_alive
    for notice in (one for one in heard.events if isinstance(one, Notice)):
        assert is_gone(int(notice.sentence))
    assert any(isinstance(one, Died) for one in heard.events) == (moment == "dead")
    worker.restart()
    heard.until(Ready if moment in ("starting", "thinking", "writing", "idle") else Notice)


def test_stopping_is_quick_while_the_process_hears_nothing(worker: Worker, heard: Listener) -> None:
    worker.load(EngineChoice("scripted"))
    pid = int(heard.until(Notice).sentence)
    heard.until(Ready)
    os.kill(pid, signal.SIGSTOP)
    begun = time.perf_counter()
    worker.reply("unheard", [user("x" * 1_000_000)])
    worker.cancel("unheard")
    assert time.perf_counter() - begun < QUITTING_S
    quick_stop(worker)
    wait_until(lambda: is_gone(pid))


def test_stopping_is_quick_while_and_after_the_listener_is_called(heard: Listener) -> None:
    stopped = threading.Event()

    def listener(event: Event) -> None:
        heard(event)
        if isinstance(event, Ready):
            quick_stop(quitting)
            stopped.set()

    quitting = Worker(listener, CHILD)
    quitting.load(EngineChoice("scripted"))
    quitting.reply("1", [user("say:hello")])
    assert stopped.wait(PATIENCE_S)
    quick_stop(quitting)
    assert isinstance(heard.events[-1], Ready)


def test_what_the_process_started_ends_with_it(worker: Worker, heard: Listener) -> None:
    worker.load(EngineChoice("scripted"))
    worker.reply("1", [user("start:")])
    wait_until(lambda: heard.said("1").isdigit() and not is_gone(int(heard.said("1"))))
    worker.stop()
    wait_until(lambda: is_gone(int(heard.said("1"))))


def test_another_model_ends_the_answers_of_the_one_before(worker: Worker, heard: Listener) -> None:
    worker.load(EngineChoice("scripted"))
    worker.reply("interrupted", [user("endless:")])
    worker.reply("waiting", [user("say:hello")])
    heard.until(Said)
    worker.load(EngineChoice("second"))
    worker.reply("next", [user("say:hello")])
    assert heard.finished("next").text == "hello"
    interrupted = heard.finished("interrupted")
    assert (interrupted.finish, interrupted.text) == ("cancelled", heard.said("interrupted"))
    assert heard.finished("waiting") == Finished("waiting", "cancelled", "")
    assert heard.until(Ready, lambda one: one.bundle == "second")
    assert not any(isinstance(one, Died) for one in heard.events)
    first, second = (int(one.sentence) for one in heard.events if isinstance(one, Notice))
    wait_until(lambda: is_gone(first))
    assert not is_gone(second)


def test_a_load_that_hangs_makes_way_at_once(worker: Worker, heard: Listener) -> None:
    worker.load(EngineChoice("never-loads"))
    heard.until(Loading)
    worker.load(EngineChoice("scripted"))
    assert heard.until(Ready).bundle == "scripted"


PARENT = """
import sys, threading
from minigpt4.core.worker.client import EngineChoice, Notice, Phase, WireMessage, Worker

def tell(event):
    if isinstance(event, (Notice, Phase)):
        print(getattr(event, "sentence", None) or event.phase, flush=True)

worker = Worker(tell, sys.argv[2:])
worker.load(EngineChoice(sys.argv[1]))
worker.reply("1", [WireMessage("user", "endless:")])
sys.stdin.read()
"""


@pytest.mark.parametrize("doing", ["never-loads", "scripted"])
@pytest.mark.parametrize("is_killed", [True, False])
def test_the_process_ends_with_its_parent(doing: str, is_killed: bool) -> None:
    with subprocess.Popen(
        [sys.executable, "-P", "-c", PARENT, doing, *CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout
        assert parent.stdin
        child = int(parent.stdout.readline())
        if doing == "scripted":
            while parent.stdout.readline().strip() != b"writing":
                pass
        assert not is_gone(child)
        if is_killed:
            parent.kill()
        else:
            parent.stdin.close()
        parent.wait(PATIENCE_S)
        wait_until(lambda: is_gone(child))
        assert parent.returncode == (-signal.SIGKILL if is_killed else 0)


def test_a_program_that_is_not_there_is_a_death(heard: Listener, tmp_path: Path) -> None:
    worker = Worker(heard, [str(tmp_path / "no-python")])
    worker.load(EngineChoice("scripted"))
    assert "no-python" in heard.until(Died).sentence
    assert not worker.is_alive
    worker.stop()


def test_a_package_that_is_missing_at_the_start_is_told(heard: Listener) -> None:
    worker = Worker(heard, [sys.executable, "-P", "-c", "import nosuchpackage"])
    worker.load(EngineChoice("scripted"))
    death = heard.until(Died)
    assert "nosuchpackage" in death.sentence
    assert "minigpt4 doctor" in death.advice
    assert "Traceback" in death.details
    worker.stop()


def test_a_program_that_talks_nonsense_is_ended(heard: Listener) -> None:
    babble = "import sys, threading; print('Hello, I am no frame', flush=True); threading.Event().wait()"
    worker = Worker(heard, [sys.executable, "-P", "-c", babble])
    worker.load(EngineChoice("scripted"))
    assert "cannot be read" in heard.until(Died).sentence
    assert not worker.is_alive
    worker.stop()


def test_of_much_stderr_the_end_is_kept(heard: Listener) -> None:
    shout = "import sys; sys.stderr.write('é' * 200_000 + 'the end'); sys.exit(3)"
    worker = Worker(heard, [sys.executable, "-P", "-c", shout])
    worker.load(EngineChoice("scripted"))
    details = heard.until(Died).details
    assert details.endswith("éthe end")
    assert len(details) < 9_000
    worker.stop()


def test_an_unknown_signal_has_a_sentence_all_the_same() -> None:
    assert "signal 15, SIGTERM" in died(-15, "").sentence
    assert "signal 99" in died(-99, "").sentence


@given(st.text(st.characters(), max_size=50), st.lists(st.text(max_size=20), max_size=3))
def test_commands_and_events_read_back_as_they_were(text: str, names: list[str]) -> None:
    messages = (WireMessage("user", text, tuple(Path(name) for name in names)), WireMessage("system", ""))
    for command in (
        Answer("1", messages, {"seed": None, "top_p": 0.9}, 2),
        Load(EngineChoice("mini", projection=Path(text), threads=2)),
    ):
        assert read_command(BytesIO(frame(command))) == command
    for event in (Said("1", text), Finished("1", "stop", text, 1, 2, 0.5, None), Failed(None, text)):
        assert read_event(BytesIO(frame(event))) == event


def test_what_is_no_frame_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(3)
    good = frame(Said("1", "hello"))
    assert read_event(BytesIO()) is None
    for cut in range(1, len(good)):
        with pytest.raises(CutShortError):
            read_event(BytesIO(good[:cut]))
    for _ in range(200):
        with pytest.raises(WireError):
            read_event(BytesIO(rng.randbytes(40)))
    for wrong in (b"[1]", b"{}", b'{"kind": "Said"}', b'{"kind": "Nobody"}', b'{"kind": "Said", "odd": 1}'):
        framed = len(wrong).to_bytes(4, "big") + wrong
        with pytest.raises(WireError):
            read_event(BytesIO(framed))
        with pytest.raises(WireError):
            read_command(BytesIO(framed))
    monkeypatch.setattr(wire, "LONGEST_FRAME", 100)
    with pytest.raises(WireError, match="one frame"):
        frame(Said("1", "too long" * 20))


def test_the_parent_needs_no_model_library_and_no_numpy() -> None:
    script = "import sys, minigpt4.core.worker.client; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    heavy = {"torch", "transformers", "llama_cpp", "numpy", "PIL", "gguf"}
    assert not heavy & set(done.stdout.split())


@needs_llama
def test_missing_files_are_fetched_by_the_real_child_with_reports(
    heard: Listener, tmp_path: Path, write_bundle: Callable[..., Path]
) -> None:
    contents = {"vision": b"12345", "language": b"not a model"}
    sources = {}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        sources[f"{name}_sources"] = [{"kind": "path", "path": str(tmp_path / name)}]
    write_bundle("tiny", **contents, **sources)
    worker = Worker(heard)
    worker.load(EngineChoice("tiny", backend="llamacpp", device="cpu"))
    sentence = heard.failed(None).sentence
    loaded = [one for one in heard.events if isinstance(one, Loading)]
    assert {(one.file, one.done) for one in loaded} >= {("vision.bin", 5), ("language.bin", 11)}
    assert "projection" in sentence
    worker.stop()


@needs_llama
def test_mini_answers_about_a_photo_in_its_own_process(
    mini_home: Path, examples: Path, heard: Listener
) -> None:
    worker = Worker(heard)
    try:
        worker.load(EngineChoice("mini", backend="llamacpp", device="cpu", threads=1, context=512))
        asked = [user("What is in this picture?", examples / "chelsea.png")]
        worker.count("counted", asked)
        worker.reply("photo", asked, Sampling(max_tokens=24, temperature=0.0))
        finished = heard.finished("photo")
        assert finished.text == heard.said("photo")
        assert any(letter.isalpha() for letter in finished.text)
        assert finished.tokens_per_s
        counted = heard.until(Counted, lambda one: one.request == "counted")
        assert counted.positions == finished.prompt_tokens
        assert heard.until(Ready).backend == "llamacpp"
        worker.reply("story", [user("Tell me a very long story.")], Sampling(max_tokens=400, seed=1))
        heard.until(Said, lambda one: one.request == "story")
        worker.cancel("story")
        story = heard.finished("story")
        assert story.text == heard.said("story")
        worker.reply("until the end", [user("Tell me a very long story.")], Sampling(max_tokens=400, seed=1))
        heard.until(Said, lambda one: one.request == "until the end")
        quick_stop(worker)
    finally:
        worker.stop()
