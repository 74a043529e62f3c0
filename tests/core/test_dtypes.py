from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from minigpt4.core import dtypes as precision
from minigpt4.core.bundles.geometry import ViTGeometry
from minigpt4.core.dtypes import default_dtype, dtype_for
from minigpt4.core.errors import BundleError, UsageError
from minigpt4.train.precision import precision_on

VISION = {"width": 1408, "depth": 39, "heads": 16, "mlp": 6144, "patch": 14}


@pytest.fixture(autouse=True)
def _ask_the_processor_again() -> Iterator[None]:
    precision._cpu_flags.cache_clear()
    yield
    precision._cpu_flags.cache_clear()


@pytest.mark.parametrize(("flags", "expected", "trained"), [
    ("fpu avx2 avx512f", "fp32", "fp32"),
    ("fpu avx512f avx512_bf16", "bf16", "fp32"),
    ("fpu amx_tile amx_bf16", "bf16", "bf16"),
])  # fmt: skip
def test_a_cpu_computes_in_bf16_if_it_has_instructions_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, expected: str, trained: str
) -> None:
    facts = tmp_path / "cpuinfo"
    facts.write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t: amx_bf16\n")
    monkeypatch.setattr(precision, "CPU_INFO", facts)
    assert default_dtype("cpu") == dtype_for("auto", "cpu") == expected
    assert default_dtype("cuda") == default_dtype("cuda:1") == "fp16"
    assert precision_on("cpu", "bf16", 100 << 20) == trained
    assert precision_on("cpu", "bf16", 20 << 30) == "bf16", "it would not fit"
    assert precision_on("cuda", "bf16", 100 << 20) == "bf16"


def test_an_unknown_processor_computes_in_fp32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "CPU_INFO", tmp_path / "none")
    assert default_dtype("cpu") == "fp32"


def test_torchs_names_are_taken_too_and_others_refused() -> None:
    assert [dtype_for(name, "cpu") for name in ("float32", "bfloat16", "float16", "bf16")] == [
        "fp32",
        "bf16",
        "fp16",
        "bf16",
    ]
    with pytest.raises(UsageError, match="no float type 'int8'; choose auto, fp32, bf16 or fp16"):
        dtype_for("int8", "cpu")


def test_the_released_geometry_has_257_tokens() -> None:
    assert ViTGeometry.parse(VISION).positions(224) == 257


@pytest.mark.parametrize(("change", "message"), [
    ({"dpeth": 39}, "'vision.options.dpeth' is not a known key"),
    ({"depth": 0}, "'vision.options.depth' is 0"),
    ({"depth": True}, "'vision.options.depth' is True"),
    ({"patch": 14.0}, "'vision.options.patch' is 14.0"),
    ({"heads": 15}, "'vision.options.heads' is 15, which does not divide the width 1408"),
])  # fmt: skip
def test_a_wrong_option_is_named_with_its_bundle(change: dict[str, object], message: str) -> None:
    with pytest.raises(BundleError, match=message) as error:
        ViTGeometry.parse({**VISION, **change}, "mine")  # type: ignore[dict-item]
    assert "the bundle 'mine'" in str(error.value)


def test_a_missing_option_is_named() -> None:
    with pytest.raises(BundleError, match=r"'vision\.options\.mlp' is missing"):
        ViTGeometry.parse({name: value for name, value in VISION.items() if name != "mlp"})
