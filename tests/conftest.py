"""What all tests share: homes that are nobody's own, the real bundle `mini`, the real program.

Set MINIGPT4_TEST_HOME to a folder to keep mini's files (125 MB) and their converted form between
checkouts; without it they stay in pytest's own cache folder of this one.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import subprocess
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from hypothesis import settings

from minigpt4.core.storage.paths import HOME_VARIABLE, config_home

if TYPE_CHECKING:
    from minigpt4.core.bundles.bundle import Bundle
    from minigpt4.train.evaluate.run_folder import EvalRun

EXAMPLES = Path(__file__).parent.parent / "examples"

# A machine that was busy for a fifth of a second has found no mistake.
settings.register_profile("minigpt4", deadline=None)
settings.load_profile("minigpt4")


class RunMinigpt4(Protocol):
    """Run the installed console program to its end; `env` is added to a clean environment."""

    def __call__(
        self,
        *arguments: str | Path,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = 300,
    ) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture(scope="session", autouse=True)
def _interrupts_interrupt() -> None:
    """A shell starts background jobs with Ctrl+C ignored, and every process below would inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _nobodys_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the home of the person who runs it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(HOME_VARIABLE, str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="session")
def mini_home(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A MINIGPT4_HOME that holds the bundle `mini`, for this process and its children."""
    # Imported here: a slip in either then fails the tests that need mini, not all of them.
    from minigpt4.core.bundles.bundle import load_bundle
    from minigpt4.core.download.fetch import ensure

    kept = os.environ.get("MINIGPT4_TEST_HOME")
    home = Path(kept).absolute() if kept else Path(request.config.cache.mkdir("minigpt4-home"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(HOME_VARIABLE, str(home))
        ensure(load_bundle("mini"), progress=None)
        yield home


@pytest.fixture(autouse=True)
def _home_of_this_test(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty home for every test that did not ask for `mini_home`."""
    if "mini_home" in request.fixturenames:
        monkeypatch.setenv(HOME_VARIABLE, str(request.getfixturevalue("mini_home")))
    else:
        monkeypatch.setenv(HOME_VARIABLE, str(tmp_path_factory.mktemp("home")))


class WriteBundle(Protocol):
    """Write a user's manifest whose two files hold a few bytes; `*_sources` are as in the manifest."""

    def __call__(
        self,
        name: str,
        *,
        vision: bytes,
        vision_sources: Sequence[Mapping[str, str]],
        language: bytes,
        language_sources: Sequence[Mapping[str, str]],
    ) -> Path: ...


@pytest.fixture
def write_bundle() -> WriteBundle:
    """A bundle of the user's own whose files are too small to be a model: for all but answering."""

    def file(name: str, content: bytes, sources: Sequence[Mapping[str, str]]) -> str:
        def inline(source: Mapping[str, str]) -> str:
            # A JSON text is a TOML text, too.
            return "{" + ", ".join(f"{key} = {json.dumps(value)}" for key, value in source.items()) + "}"

        return (
            f'name = "{name}"\nbytes = {len(content)}\nsha256 = "{hashlib.sha256(content).hexdigest()}"\n'
            f"sources = [{', '.join(map(inline, sources))}]\n"
        )

    def write(
        name: str,
        *,
        vision: bytes,
        vision_sources: Sequence[Mapping[str, str]],
        language: bytes,
        language_sources: Sequence[Mapping[str, str]],
    ) -> Path:
        manifest = config_home() / "bundles" / f"{name}.toml"
        manifest.parent.mkdir(parents=True, exist_ok=True)
        manifest.write_text(
            'summary = "A small one"\nlicense = "none"\ntemplate = "smollm2"\n'
            '[vision]\narchitecture = "efficientnet-lite2"\nimage_size = 4\n'
            "mean = [0.5, 0.5, 0.5]\nstd = [0.5, 0.5, 0.5]\n"
            f"[vision.file]\n{file('vision.bin', vision, vision_sources)}"
            '[projection]\nfile = "projection.safetensors"\ninputs = 2\noutputs = 3\nimage_tokens = 1\n'
            '[language]\narchitecture = "llama"\ncontext = 8\nwidth = 3\n'
            f"[language.file]\n{file('language.bin', language, language_sources)}",
            encoding="utf-8",
        )
        return manifest

    return write


@pytest.fixture(scope="session")
def golden() -> Path:
    """The original's vectors that are too large for the repository: its language model and what it says."""
    folder = Path(__file__).parents[2] / "shared" / "golden"
    if not folder.is_dir():
        pytest.skip(f"the reference's vectors are not here ({folder})")
    return folder


class ImportTiny(Protocol):
    """Import the reference's tiny model; `has_qformer=False` for the form of the LLaMA-2 release."""

    def __call__(self, name: str = "tiny", *, has_qformer: bool = True) -> Bundle: ...


@pytest.fixture
def import_tiny(golden: Path) -> ImportTiny:
    """The tiny MiniGPT-4 whose every number the original code has told, as a bundle in this test's home."""
    from minigpt4.core.bundle_making.import_bundle import Originals, import_bundle

    model = golden / "tiny_model"

    def import_as(name: str = "tiny", *, has_qformer: bool = True) -> Bundle:
        originals = Originals(
            vit=model / "eva_vit.pth",
            qformer=model / "blip2_pretrained.pth" if has_qformer else None,
            projection=model / ("minigpt4.pth" if has_qformer else "minigpt4_noqformer.pth"),
            llm=model / "llama",
            template="vicuna-v0" if has_qformer else "llama2",
            geometry=model / "tiny_config.json",
        )
        return import_bundle(name, originals)

    return import_as


class WriteLlama(Protocol):
    """Write a Hugging Face folder of a LLaMA with random weights; of `hollow` weights only the headers."""

    def __call__(
        self,
        folder: Path,
        *,
        width: int = 16,
        rows: int = 900,
        tokens: int = 900,
        spread: float = 0.02,
        hollow: bool = False,
    ) -> Path: ...


@pytest.fixture(scope="session")
def write_llama() -> WriteLlama:
    """LLaMAs of one layer, or what looks like one of true width and takes no room on the disk."""
    from minigpt4.core.bundle_making.random_weights import write_random
    from minigpt4.core.weights.gguf.to_hf import hugging_face_name
    from minigpt4.core.weights.gguf.writer import LlamaShape
    from minigpt4.core.weights.sentencepiece_vocab import made_up_vocabulary, sentencepiece_bytes

    def write(
        folder: Path,
        *,
        width: int = 16,
        rows: int = 900,
        tokens: int = 900,
        spread: float = 0.02,
        hollow: bool = False,
    ) -> Path:
        shape = LlamaShape(layers=1, width=width, mlp=32, heads=4, key_heads=4, vocabulary=rows, context=2048)
        shapes = {hugging_face_name(name): size for name, size in shape.tensors().items()}
        folder.mkdir(parents=True)
        weights = folder / "model.safetensors"

        def spread_of(name: str, size: tuple[int, ...]) -> float:
            return spread if len(size) > 1 or spread < 0.01 else -1.0

        if hollow:
            _write_hollow(weights, shapes)
        else:
            write_random(weights, shapes, dtype="fp16", seed=1, spread=spread_of)
        config = {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": width,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "vocab_size": rows,
            "max_position_embeddings": 2048,
            "rms_norm_eps": 1e-6,
            "bos_token_id": 1,
            "eos_token_id": 2,
        }
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "tokenizer.model").write_bytes(sentencepiece_bytes(made_up_vocabulary(tokens)))
        return folder

    return write


def _write_hollow(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    header: dict[str, object] = {}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


@pytest.fixture(scope="session")
def examples() -> Path:
    """The folder of example photographs."""
    return EXAMPLES


@pytest.fixture
def run_minigpt4(tmp_path: Path) -> RunMinigpt4:
    """The console program as a shell would start it, in an empty folder unless told otherwise."""
    program = Path(sysconfig.get_path("scripts")) / "minigpt4"
    if not program.exists():
        pytest.fail(f"{program} is missing: install the project first (make test does).")

    def run(
        *arguments: str | Path,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [program, *map(str, arguments)],
            input=stdin if stdin is not None else b"",
            capture_output=True,
            env=clean_environment() | dict(env or {}),
            cwd=cwd or tmp_path,
            timeout=timeout,
            check=False,
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode("utf-8"), done.stderr.decode("utf-8")
        )

    return run


@pytest.fixture
def call_minigpt4(capsys: pytest.CaptureFixture[str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """As `run_minigpt4`, but in the test's own process: for commands that fail before they load anything."""
    from minigpt4.tui.cli import main

    def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        code = ended.value.code
        assert isinstance(code, int)
        return subprocess.CompletedProcess(arguments, code, *capsys.readouterr())

    return call


def clean_environment() -> dict[str, str]:
    """The caller's environment (pip's settings must hold) without what would change our output."""
    ours = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("MINIGPT4_", "PYTHON", "PYTEST", "COV"))
        and key not in {"COLUMNS", "LINES", "FORCE_COLOR", "TERM", "VIRTUAL_ENV"}
    }
    return ours | {HOME_VARIABLE: os.environ[HOME_VARIABLE], "LANG": "C.UTF-8", "NO_COLOR": "1"}


@pytest.fixture
def judged_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draw_picture: Callable[[Path, int], Path]
) -> Callable[..., EvalRun]:
    """A run by its name, begun at the first call: answers about drawn pictures, in whose folder they lie.

    Its suite, "agree", asks a judge whether each answer is true; each fourth answer is a known negative too.
    """
    from minigpt4.train.evaluate import suites
    from minigpt4.train.evaluate.run_folder import EvalRun
    from minigpt4.train.evaluate.suite import JudgeTask, Record, Suite

    class Agree(Suite):
        name = "agree"

        def tasks(self, photos: Any, options: Any) -> Iterator[Any]:
            return iter(())

        def scores(self, records: Sequence[Any], verdicts: Sequence[Any] = ()) -> list[Any]:
            from minigpt4.train.evaluate.scores import Score

            said = [one for one in verdicts if one.value is not None and not one.is_negative]
            return [Score("true", {f"{one.id} {one.judge}": (one.value, 1) for one in said}, is_rate=True)]

        def judge_tasks(self, records: Sequence[Any], seed: int = 0) -> list[Any]:
            def asked(about: Record, answer: str, *, is_negative: bool = False) -> JudgeTask:
                words = "Is everything in the answer true of the picture?"
                return JudgeTask(about.id, "true", words, words, answer, True, is_negative)

            wrong = [
                asked(about, records[number - 1].answer, is_negative=True)
                for number, about in enumerate(records)
                if number % 4 == 3
            ]
            return [*(asked(one, one.answer) for one in records), *wrong]

    monkeypatch.setitem(suites.SUITES, "agree", Agree)

    def begin(name: str, answers: int = 4, suite: str = "agree") -> EvalRun:
        if (tmp_path / name).exists():
            return EvalRun.open(tmp_path / name)
        run = EvalRun.begin(tmp_path / name, {"suite": suite})
        with run.answers_file() as file:
            for number in range(answers):
                picture = draw_picture(tmp_path / "pictures" / f"{number:02}.png", number)
                digest = hashlib.sha256(picture.read_bytes()).hexdigest()
                text = f"Run {name} sees {number + 1} bright squares."
                file.add(Record(f"{number:02}", picture.name, "pictures", digest, "What is it?", text))
        return run

    return begin


@pytest.fixture
def draw_picture() -> Callable[[Path, int], Path]:
    """Draw a picture of some squares, if it is not drawn yet."""
    from PIL import Image, ImageDraw

    def draw(path: Path, squares: int) -> Path:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            image = Image.new("RGB", (64, 48), "#8fc1de")
            for place in range(squares + 1):
                left, top = 8 + 16 * (place % 3), 4 + 12 * (place // 3)
                ImageDraw.Draw(image).rectangle((left, top, left + 7, top + 7), "#f2c94c")
            image.save(path)
        return path

    return draw
