"""The file of drafts: what is saved comes back once, in one of the instances that start later."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from minigpt4.tui.conversation.draft import Draft, DraftPicture
from minigpt4.tui.conversation.drafts import NEW, Drafts
from minigpt4.tui.conversation.question_history import QuestionHistory
from minigpt4.tui.history.store import StoredPicture
from minigpt4.tui.images.attachments import Attachment


class Instance:
    """One of several that have the same folder; `texts` are those put aside."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.history = QuestionHistory(list)
        self.drafts = Drafts(
            folder / "drafts", self.history, lambda digest, kind: folder / f"{digest}.{kind}"
        )

    def save(self, shown: str, draft: Draft, edited: str = "") -> None:
        self.drafts.note(shown, draft, edited)
        self.drafts.save()

    def take_over(self, *existing: str) -> list[str]:
        return self.drafts.take_over(lambda ids: {one for one in ids if one in existing})

    @property
    def texts(self) -> list[str]:
        return [text for _, text in self.history.put_aside]

    @property
    def files(self) -> list[Path]:
        return sorted((self.folder / "drafts").glob("*.json"))

    def die(self) -> None:
        """End without a farewell: the system releases the lock."""
        self.drafts._writer.release()


@pytest.fixture
def start(tmp_path: Path) -> type[Instance]:
    class Here(Instance):
        def __init__(self) -> None:
            super().__init__(tmp_path)

    return Here  # type: ignore[return-value]


def test_drafts_of_an_instance_that_died_come_back_once(start: type[Instance]) -> None:
    one = start()
    one.drafts.put_away("old talk", Draft("about the old"))
    one.history.keep("put aside")
    one.save(NEW, Draft("half a sen\ud800"))
    one.die()
    two = start()
    assert two.take_over("old talk") == []
    assert two.drafts.take_out("old talk").text == "about the old"
    assert two.drafts.take_out(NEW).text == "half a sen\ud800"
    assert two.texts == ["put aside"]
    two.save(NEW, Draft())
    three = start()
    three.take_over("old talk")
    assert three.drafts.take_out(NEW).is_empty


def test_nothing_is_lost_if_the_taker_dies_before_it_saves(start: type[Instance]) -> None:
    one = start()
    one.save(NEW, Draft("half a sen"))
    one.die()
    two = start()
    two.take_over()
    two.die()
    three = start()
    three.take_over()
    assert three.drafts.take_out(NEW).text == "half a sen"


def test_a_running_instance_keeps_its_own(start: type[Instance]) -> None:
    one, two = start(), start()
    one.save(NEW, Draft("mine"))
    two.take_over()
    assert two.drafts.take_out(NEW).is_empty
    two.save(NEW, Draft("yours"))
    assert len(one.files) == 2
    one.drafts.close()
    two.drafts.close()
    three = start()
    three.take_over()
    assert {three.drafts.take_out(NEW).text for _ in range(3)} == {"mine", "yours", ""}


def test_a_draft_of_a_conversation_that_is_gone_is_for_a_new_one(start: type[Instance]) -> None:
    one = start()
    one.save("gone", Draft("about what is gone"))
    one.die()
    two = start()
    two.take_over()
    assert two.drafts.take_out("gone").is_empty
    assert two.drafts.take_out(NEW).text == "about what is gone"


def test_held_question_edit_and_the_draft_under_a_walk_are_saved(start: type[Instance]) -> None:
    one = start()
    draft = Draft("and this?")
    draft.hold("First?")
    one.history._sent = lambda: [(1.0, "sent before")]
    one.save(NEW, draft, edited="another wording")
    one.die()
    two = start()
    two.take_over()
    assert two.drafts.take_out(NEW).text == "First?\nand this?"
    assert two.texts == ["another wording"]

    three = start()
    three.history._sent = lambda: [(1.0, "sent before")]
    assert three.history.earlier("my draft") == "sent before"
    three.save(NEW, Draft("sent before, changed"))
    three.die()
    four = start()
    four.take_over()
    assert four.drafts.take_out(NEW).text == "sent before, changed"
    assert "my draft" in four.texts


def test_the_file_is_private_and_goes_with_the_last_draft(start: type[Instance]) -> None:
    one = start()
    one.save(NEW, Draft())
    assert not (one.folder / "drafts").exists()
    one.save(NEW, Draft("secret"))
    (file,) = one.files
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    one.save(NEW, Draft())
    one.drafts.close()
    assert list(file.parent.iterdir()) == []


def test_a_damaged_file_is_named_and_moved_aside_and_the_others_are_read(start: type[Instance]) -> None:
    one = start()
    one.save(NEW, Draft("sound"))
    one.die()
    (one.folder / "drafts" / "abc.json").write_text('{"drafts": {"a": 3}, "waiting": [], "put_aside": []}')
    two = start()
    (problem,) = two.take_over()
    assert "cannot be read" in problem
    assert two.drafts.take_out(NEW).text == "sound"
    assert len(list((one.folder / "drafts").glob("*.damaged"))) == 1
    assert start().take_over() == []


def test_pictures_come_back_from_what_was_kept_or_from_where_they_lay(start: type[Instance]) -> None:
    one = start()
    kept, gone = one.folder / "abc.PNG", StoredPicture("def", "gone.png", 4, 4, "PNG", one.folder / "def.PNG")
    kept.write_bytes(b"")
    draft = Draft("these?")
    draft.add("pasted", StoredPicture("abc", "pasted", 4, 4, "PNG", kept))
    draft.add("photo.png", source=Attachment(Path("photo.png"), "photo.png"))
    draft.add("web.png", source=Attachment("https://example.org/web.png", "https://example.org/web.png"))
    draft.add("gone.png", gone)
    one.save(NEW, draft)
    one.die()
    two = start()
    two.take_over()

    def opens(picture: DraftPicture) -> object:
        return picture.unopened.source if picture.unopened is not None else picture.problem

    pictures = two.drafts.take_out(NEW).pictures
    assert [one.name for one in pictures] == ["pasted", "photo.png", "web.png", "gone.png"]
    assert [opens(one) for one in pictures] == [
        kept,
        Path("photo.png").absolute(),
        "https://example.org/web.png",
        "The picture 'gone.png' is no longer kept; add it again.",
    ]
