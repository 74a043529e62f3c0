"""Open a language GGUF and an mmproj in a separate process, which a damaged file may crash.

The process prints one line of JSON: `image_tokens` of an ordinary photo, or the sentence of an `error`.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from PIL import Image

from minigpt4.core.errors import BackendError, BundleError, Minigpt4Error

PHOTO = (640, 480)
ROOM = 64
"""Positions of the context: enough to open a model, and hardly any memory."""


def try_pair(language: Path, mmproj: Path) -> int:
    """How many tokens a photo takes; raises BundleError if llama.cpp rejects the files or crashes on them."""
    # -P: a file called json.py in the working folder must not become Python's `json`.
    command = (sys.executable, "-P", "-m", __name__, str(language), str(mmproj))
    tried = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    try:
        answer = json.loads(tried.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        ended = f"signal {signal.Signals(-tried.returncode).name}" if tried.returncode < 0 else "an error"
        raise BundleError(
            f"llama.cpp ended with {ended} when it opened {language} and {mmproj}; one of them is damaged "
            "or of a "
            "kind that the installed llama.cpp does not know: fetch them again, or update llama-cpp-python."
        ) from None
    if "error" in answer:
        kind = BackendError if answer["kind"] == "BackendError" else BundleError
        raise kind(answer["error"])
    return int(answer["image_tokens"])


def _open(language: Path, mmproj: Path) -> int:
    from minigpt4.core.mtmd.encoder import needs_true_tower
    from minigpt4.core.mtmd.language import LlamaCppWithImages
    from minigpt4.core.mtmd.library import Mmproj
    from minigpt4.core.types import Stretch
    from minigpt4.core.weights.gguf.facts import mmproj_facts
    from minigpt4.core.weights.gguf.pair import check_pair

    facts = mmproj_facts(mmproj)
    model = LlamaCppWithImages(language, context=ROOM, threads=1)
    check_pair(model.facts, facts, model.has_token)
    if needs_true_tower(facts):
        from minigpt4.core.llava.class_row import own_mmproj

        own_mmproj(mmproj)  # raises for a form that neither libmtmd nor torch computes correctly
    layout = Mmproj(facts, model, threads=1).layout(Image.new("RGB", PHOTO))
    return sum(part.vectors if isinstance(part, Stretch) else len(part) for part in layout)


if __name__ == "__main__":
    try:
        result: dict[str, object] = {"image_tokens": _open(Path(sys.argv[1]), Path(sys.argv[2]))}
    except Minigpt4Error as problem:
        result = {"error": str(problem), "kind": type(problem).__name__}
    print(json.dumps(result), flush=True)
