"""Whatever a model says is learnt as it was written, in each of the three forms."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt4.train.data.dataset import captions_in
from minigpt4.train.data.open import open_photos
from minigpt4.tui.captioning.list_file import ListFile
from minigpt4.tui.captioning.output import Existing, Output
from minigpt4.tui.captioning.sentences import as_caption
from minigpt4.tui.captioning.text_files import TextFiles

ANSWERS = st.text(st.one_of(st.sampled_from(" \"',;\t\n\r\\{}[]\ufeff\x00\x85\u2028é猫🐈"), st.characters()))


def learnt(place: Path) -> dict[str, tuple[str, ...]]:
    found = open_photos(place)
    return {found.key(index): captions_in(found.meta(index)) for index in range(len(found))}


@pytest.mark.parametrize("form", ["txt", "captions.jsonl", "captions.csv"])
@given(answers=st.lists(ANSWERS, min_size=1, max_size=3))
def test_any_caption_is_read_back_equal(
    tmp_path_factory: pytest.TempPathFactory, form: str, answers: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("pictures")
    captions = {f"{index}.png": as_caption(f"x{text}") for index, text in enumerate(answers)}
    for name in captions:
        (folder / name).touch()
    output = output_of(form, folder, [folder / name for name in captions], "skip")
    for name, caption in captions.items():
        output.write(folder / name, caption)
    output.finish([])
    assert learnt(folder) == {name: (caption,) for name, caption in captions.items()}


@given(
    st.text(st.one_of(st.sampled_from("\n\t"), st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"))))
)
def test_an_answer_without_control_characters_is_the_caption(answer: str) -> None:
    assert as_caption(answer) == answer.replace("\ufeff", "").replace("\ufffe", "").strip()


@pytest.mark.parametrize(
    ("answer", "caption"),
    [("A cat.\r\nA dog.", "A cat.\nA dog."), ("A\x00 ca\x1b[0mt\x07.", "A ca[0mt."), (" \n\ufeff", "")],
)
def test_control_characters_are_left_out(answer: str, caption: str) -> None:
    assert as_caption(answer) == caption


def output_of(form: str, folder: Path, pictures: list[Path], existing: Existing) -> Output:
    return TextFiles(pictures, existing) if form == "txt" else ListFile(folder / form, existing)
