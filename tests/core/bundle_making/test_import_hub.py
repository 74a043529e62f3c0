"""`models import --hub`: the pair is chosen by headers, fetched and verified, and can be pulled again."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote

import pytest
from tests.conftest import RunMinigpt4
from tests.core.download.conftest import listening

from minigpt4.core.bundles.bundle import load_bundle, own_manifest
from minigpt4.core.download.fetch import bundles_folder, is_whole
from minigpt4.core.errors import UsageError

COMMIT = "c0ffee" + "0" * 34
REPOSITORY = "somebody/tiny-GGUF"

Import = Callable[..., "subprocess.CompletedProcess[str]"]


@dataclass
class Hub:
    """As much of the hub as a repository of GGUF files needs, and what was asked of it."""

    files: dict[str, bytes] = field(default_factory=dict)
    url: str = ""
    gated: bool = False
    sent: dict[str, int] = field(default_factory=dict)


@pytest.fixture
def hub() -> Iterator[Hub]:
    state = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, *, with_body: bool) -> None:
            if state.gated:
                self.send_response(403)
                self.send_header("X-Error-Code", "GatedRepo")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if self.path.startswith(f"/api/models/{REPOSITORY}"):
                self.send(200, json.dumps(listing(state.files)).encode(), {}, with_body=with_body)
                return
            name = unquote(self.path.partition(f"/resolve/{COMMIT}/")[2])
            content = state.files.get(name)
            if content is None:
                self.send(404, b"", {"X-Error-Code": "EntryNotFound"}, with_body=False)
                return
            etag = hashlib.sha256(content).hexdigest()
            headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"'}
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if asked is None:
                self.send(200, content, headers, with_body=with_body, name=name)
                return
            start, end = int(asked[1]), int(asked[2] or len(content) - 1)
            part = content[start : end + 1]
            headers["Content-Range"] = f"bytes {start}-{start + len(part) - 1}/{len(content)}"
            self.send(206, part, headers, with_body=with_body, name=name)

        def send(
            self, status: int, body: bytes, headers: dict[str, str], *, with_body: bool, name: str = ""
        ) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if with_body:
                state.sent[name] = state.sent.get(name, 0) + len(body)
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with listening(Handler) as address:
        state.url = address
        yield state


def listing(files: dict[str, bytes]) -> dict[str, object]:
    siblings = [
        {
            "rfilename": name,
            "size": len(content),
            "blobId": "0" * 40,
            "lfs": {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130},
        }
        for name, content in files.items()
    ]
    return {"id": REPOSITORY, "sha": COMMIT, "siblings": [*siblings, {"rfilename": "README.md", "size": 3}]}


@pytest.fixture
def import_tiny(hub: Hub, golden: Path, tmp_path: Path, run_minigpt4: RunMinigpt4) -> Import:
    """Run `models import tiny ...` or another command with a repository of two models' files on the hub."""
    pytest.importorskip("llama_cpp")
    gemma, qwen = golden / "vlm" / "gemma3", golden / "vlm" / "qwen25vl"
    hub.files |= {
        "gemma-tiny-Q8_0.gguf": (gemma / "lang.gguf").read_bytes(),
        "gemma-tiny-Q4_K_M.gguf": (gemma / "lang.gguf").read_bytes(),
        "gemma-tiny-F32-00001-of-00002.gguf": b"a part",
        "mmproj-gemma.gguf": (gemma / "mmproj.gguf").read_bytes(),
        "mmproj-qwen-F16.gguf": (qwen / "mmproj.gguf").read_bytes(),
    }
    settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}

    def run(*arguments: str, command: str = "import") -> subprocess.CompletedProcess[str]:
        return run_minigpt4("models", command, "tiny", *arguments, env=settings)

    return run


def test_the_preferred_pair_is_chosen_by_headers_fetched_and_pulled_again(
    hub: Hub, import_tiny: Import
) -> None:
    done = import_tiny("--hub", REPOSITORY)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(own_manifest("tiny"))
    assert (
        "Taken: gemma-tiny-Q4_K_M.gguf with mmproj-gemma.gguf. It holds: gemma-tiny-Q8_0.gguf ("
        in done.stderr
    )
    assert "A photo takes about 11 tokens." in done.stderr
    bundle = load_bundle("tiny")
    assert bundle.mmproj is not None and bundle.mmproj.file is not None
    assert [file.sources[0].revision for file in bundle.files] == [COMMIT] * 2
    assert [file.name for file in bundle.files] == ["mmproj-gemma.gguf", "gemma-tiny-Q4_K_M.gguf"]
    assert all(is_whole(file, bundle) for file in bundle.files)
    assert (bundle.language.width, bundle.template) == (64, "gemma3")
    assert "gemma-tiny-Q8_0.gguf" not in hub.sent, "its header is not needed"
    gone = bundles_folder() / "tiny" / "mmproj-gemma.gguf"
    gone.unlink()
    again = import_tiny(command="pull")
    assert (again.returncode, gone.is_file()) == (0, True), again.stderr


def test_a_quantisation_is_named_in_the_address(import_tiny: Import) -> None:
    done = import_tiny("--hub", f"https://huggingface.co/{REPOSITORY}:q8_0")
    assert done.returncode == 0, done.stderr
    assert load_bundle("tiny").language.files[0].name == "gemma-tiny-Q8_0.gguf"


def test_folders_may_hold_files_of_one_name(hub: Hub, import_tiny: Import) -> None:
    language, mmproj = hub.files["gemma-tiny-Q8_0.gguf"], hub.files["mmproj-gemma.gguf"]
    hub.files = {
        "Q8 (whole)/model-Q8_0.gguf": language,
        "Q4/model-Q4_K_M.gguf": language,
        "mmproj/model-F16.gguf": mmproj,
    }
    done = import_tiny("--hub", f"{REPOSITORY}:Q8_0")
    assert done.returncode == 0, done.stderr
    bundle = load_bundle("tiny")
    assert [file.name for file in bundle.files] == ["mmproj_model-F16.gguf", "Q8__whole__model-Q8_0.gguf"]
    assert [file.sources[0].filename for file in bundle.files][1] == "Q8 (whole)/model-Q8_0.gguf"
    assert all(is_whole(file, bundle) for file in bundle.files)


def test_force_replaces_a_bundle_and_its_files(import_tiny: Import) -> None:
    assert import_tiny("--hub", f"{REPOSITORY}:Q8_0").returncode == 0
    refused = import_tiny("--hub", REPOSITORY)
    assert (refused.returncode, "There is a bundle 'tiny' already" in refused.stderr) == (2, True)
    done = import_tiny("--hub", REPOSITORY, "--force")
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (bundles_folder() / "tiny").glob("*.gguf")}
    assert names == {"gemma-tiny-Q4_K_M.gguf", "mmproj-gemma.gguf"}


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["tiny"], 2, "'tiny' is not a repository on the hub; give OWNER/REPO"),
        (
            [f"{REPOSITORY}:Q5_K_M"],
            2,
            "holds no language model of the quantisation Q5_K_M as one GGUF. Split",
        ),
        ([REPOSITORY, "--gguf", "a.gguf"], 2, "--hub is a whole model, and --gguf a part of another"),
        ([REPOSITORY, "--no-qformer"], 2, "--hub is a whole model, and --no-qformer a part of another"),
        (["somebody/else"], 1, "somebody/else on the hub: "),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(
    import_tiny: Import, arguments: list[str], code: int, sentence: str
) -> None:
    done = import_tiny("--hub", *arguments)
    assert done.returncode == code
    assert sentence in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("kept", "sentence"),
    [
        ("gemma-tiny-Q4_K_M.gguf", "holds no mmproj, the vision side of the model"),
        ("mmproj-gemma.gguf", "holds no language model as one GGUF. It holds: mmproj-gemma.gguf ("),
    ],
)
def test_a_repository_without_one_of_the_two_is_told(
    hub: Hub, import_tiny: Import, kept: str, sentence: str
) -> None:
    hub.files = {kept: hub.files[kept]}
    done = import_tiny("--hub", REPOSITORY)
    assert done.returncode in (1, 2)
    assert sentence in done.stderr and len(done.stderr.splitlines()) == 1


def test_files_of_different_models_are_refused_before_they_are_fetched(hub: Hub, import_tiny: Import) -> None:
    del hub.files["mmproj-gemma.gguf"]
    done = import_tiny("--hub", REPOSITORY)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "are of different families" in done.stderr and REPOSITORY in done.stderr
    assert "gemma-tiny-Q4_K_M.gguf" in hub.sent and len(hub.sent) == 3, "the list and two headers"
    assert not (bundles_folder() / "tiny").exists()
    with pytest.raises(UsageError):
        load_bundle("tiny")


def test_a_file_that_is_no_gguf_is_named_by_its_address(hub: Hub, import_tiny: Import) -> None:
    hub.files["gemma-tiny-Q4_K_M.gguf"] = b"<html>" * 1000
    done = import_tiny("--hub", REPOSITORY)
    assert done.returncode == 1 and not (bundles_folder() / "tiny").exists()
    assert f"https://huggingface.co/{REPOSITORY}/gemma-tiny-Q4_K_M.gguf is no GGUF" in done.stderr


def test_a_gated_repository_is_requested_first(hub: Hub, import_tiny: Import) -> None:
    hub.gated = True
    done = import_tiny("--hub", REPOSITORY)
    assert done.returncode == 1
    assert "access to somebody/tiny-GGUF on the hub must be requested first" in done.stderr


def test_the_retries_of_the_hubs_client_are_not_printed() -> None:
    code = (
        "import minigpt4.core.download.sources; from huggingface_hub.utils import logging; "
        "log = logging.get_logger('huggingface_hub.utils._http'); log.warning('Retrying'); log.error('kept')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.split() == ["kept"]
