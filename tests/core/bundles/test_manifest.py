"""A bundle written as a manifest is read back as the same bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minigpt4.core.bundles.bundle import (
    LanguageSpec,
    QFormerSpec,
    bundle_names,
    load_bundle,
    write_manifest,
)
from minigpt4.core.bundles.source import File, Source
from minigpt4.core.storage.paths import config_home

VALUES = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"])),
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: text.strip())


def place(name: str) -> Path:
    return config_home() / "bundles" / f"{name}.toml"


@pytest.mark.parametrize("name", bundle_names())
def test_a_shipped_bundle_stays_the_same_under_another_name(name: str) -> None:
    bundle = load_bundle(name)
    write_manifest(bundle, place("copy"))
    assert load_bundle("copy") == replace(bundle, name="copy")


def test_parts_made_here_and_a_folder_of_the_users_are_kept(tmp_path: Path) -> None:
    shipped = load_bundle("minigpt4-vicuna-7b")
    assert shipped.qformer is not None
    made = File("vit.safetensors", 12, "0" * 64, ())
    bundle = replace(
        shipped,
        name="mine",
        vision=replace(shipped.vision, file=made),
        qformer=QFormerSpec(File("q.safetensors", None, None, ()), shipped.qformer.options),
        projection=replace(shipped.projection, file=None, path=tmp_path / "p.safetensors", layers=3),
        language=LanguageSpec("llama", 2000, 4096, (), folder=tmp_path / 'a "folder" \\ here'),
    )
    write_manifest(bundle, place("mine"))
    assert load_bundle("mine") == bundle


def test_each_kind_of_source_is_kept(tmp_path: Path) -> None:
    mini = load_bundle("mini")
    sources = (
        *mini.vision.file.sources,
        Source(kind="hub", repo="a/b", repo_type="dataset", revision="main", filename="c/d.bin"),
        Source(kind="url", url="https://example.org/x?a=b&c"),
        Source(kind="path", path=tmp_path / "x.whl", member="a/b"),
    )
    bundle = replace(mini, vision=replace(mini.vision, file=replace(mini.vision.file, sources=sources)))
    write_manifest(replace(bundle, name="mine"), place("mine"))
    assert load_bundle("mine").vision.file.sources == sources


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(summary=TEXTS, options=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), VALUES))
def test_any_text_and_any_option_comes_back(summary: str, options: dict[str, int | float | str]) -> None:
    mini = load_bundle("mini")
    bundle = replace(mini, name="mine", summary=summary, vision=replace(mini.vision, options=options))
    write_manifest(bundle, place("mine"))
    assert load_bundle("mine") == bundle
