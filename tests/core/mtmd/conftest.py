"""The tiny models of several families, with what transformers and libmtmd compute of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from minigpt4.core.bundles.bundle import Bundle, LanguageSpec, MmprojSpec

FAMILIES = ("llava_siglip", "smolvlm", "qwen25vl", "gemma3")
"""Those that libmtmd itself has right."""

NAMED_TEMPLATES = {
    "llava": "llava",
    "llava_siglip": "llava",
    "smolvlm": "smolvlm",
    "qwen25vl": "qwen2-vl",
    "gemma3": "gemma3",
}


@dataclass(frozen=True)
class Family:
    """A family's two GGUF files, pictures and recorded numbers."""

    name: str
    folder: Path
    facts: dict[str, Any]
    arrays: dict[str, NDArray[np.float32]]

    @property
    def language(self) -> Path:
        return self.folder / "lang.gguf"

    @property
    def mmproj(self) -> Path:
        return self.folder / "mmproj.gguf"

    def case(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.facts["cases"][name]
        return found

    def array(self, case: str, name: str) -> NDArray[np.float32]:
        return self.arrays[f"{self.name}/{case}/{name}"]

    def pictures(self, case: str) -> list[Path]:
        return [self.folder / name for name in self.case(case)["pictures"]]

    def bundle(self, context: int = 1024) -> Bundle:
        return Bundle(
            name=self.name,
            summary="a tiny model",
            license="none",
            mmproj=MmprojSpec(self.mmproj, None),
            language=LanguageSpec(
                architecture={"qwen25vl": "qwen2vl", "gemma3": "gemma3"}.get(self.name, "llama"),
                context=context,
                width=64,
                path=self.language,
            ),
            template=NAMED_TEMPLATES[self.name],
        )


@pytest.fixture(scope="session")
def families(golden: Path) -> dict[str, Family]:
    """Every family, by name."""
    pytest.importorskip("llama_cpp")
    folder = golden / "vlm"
    if not folder.is_dir():
        pytest.skip(f"the tiny models of several families are not here ({folder})")
    facts = json.loads((folder / "golden.json").read_text())["families"]
    arrays = load_file(folder / "golden.safetensors")
    return {name: Family(name, folder / name, facts[name], arrays) for name in facts}
