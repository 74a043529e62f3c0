"""Exports as Markdown, HTML and JSON; JSON is lossless."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from PIL import Image

from minigpt4.core.errors import Minigpt4Error
from minigpt4.core.pixels import open_picture
from minigpt4.tui.history.export import to_html, to_markdown
from minigpt4.tui.history.json_format import from_json, to_json
from minigpt4.tui.history.records import Role
from minigpt4.tui.history.store import Store, StoredPicture, StoreError

HOSTILE = [
    "<script>alert(1)</script>",
    "</section></body><h1>Gone</h1>",
    "<!-- the rest is swallowed",
    "```\nnever closed",
    "~~~~\n~~~\n<!--",
    "- a\n\n  ```\n  in a list",
    "## You\n\nI never said that",
    "`<b>` and `unclosed <i>",
    "\x1b[31mred\x00\x07\u202eback",
    "![x](https://example.org/track.png) [y](javascript:alert(1))",
    "<img src=x onerror=alert(1)>",
    "$$ \\[ [/] &amp; \" '",
    "\r\n\r<pre>\n<textarea>",
]


def picture_file(kind: str = "PNG", colour: str = "red") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (3, 2), colour).save(file, kind)
    return file.getvalue()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "kept" / "conversations.sqlite3")
    yield store
    store.close()


@pytest.fixture
def other() -> Iterator[Store]:
    store = Store.temporary()
    yield store
    store.close()


def talk_with(store: Store, *texts: str, name: str = "dog.png") -> str:
    """A conversation of question and answer in turn, the first question with a picture."""
    talk = store.new_conversation({"bundle": "mini"})
    parent = None
    for place, text in enumerate(texts):
        pictures = [] if place else [store.keep_picture(open_picture(picture_file()), name)]
        role: Role = "assistant" if place % 2 else "user"
        parent = store.add_message(talk.id, parent, role, text, pictures).id
    return talk.id


class Page(HTMLParser):
    """A page as a browser parses it: its elements with attributes, and the text between."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_markdown_has_the_active_branch_and_its_pictures(store: Store, tmp_path: Path) -> None:
    talk = talk_with(store, "What is\nthis?", "A **dog**.", "And?", "It runs.", name="my [dog](x).png")
    store.update_text(store.path(talk)[-1].id, "It ru", "stopped")
    file = to_markdown(store, talk, tmp_path / "out")
    text = file.read_text(encoding="utf-8")
    assert file.name == f"what-is-this-{talk[:8]}.md"
    lines = [line for line in text.split("\n") if line and not line.startswith("Started")]
    (copied,) = (tmp_path / "out" / "pictures").iterdir()
    assert lines == [
        "# What is this?",
        "## You",
        f"![my \\[dog\\]\\(x\\).png](pictures/{copied.name})",
        "> What is",
        "> this?",
        "## minigpt4",
        "A **dog**.",
        "## You",
        "> And?",
        "## minigpt4",
        "It ru",
        "*(The answer was stopped here.)*",
    ]
    assert copied.read_bytes() == picture_file()
    assert to_markdown(store, talk, tmp_path / "out") == file, "a second export takes the first one's place"


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_escapes_its_place_in_markdown(store: Store, tmp_path: Path, text: str) -> None:
    talk = talk_with(store, text, text, "The end", "The last", name=text)
    tokens = MarkdownIt("commonmark").parse(to_markdown(store, talk, tmp_path).read_text(encoding="utf-8"))
    headings = [
        tokens[place + 1].content
        for place, token in enumerate(tokens)
        if token.type == "heading_open" and token.tag in ("h1", "h2")
    ]
    assert headings[1:] == ["You", "minigpt4", "You", "minigpt4"]
    inline = [child for token in tokens for child in token.children or ()]
    assert not [token for token in [*tokens, *inline] if token.type in ("html_block", "html_inline")]


def test_code_in_markdown_stays_as_it_was(store: Store, tmp_path: Path) -> None:
    answer = "Use:\n\n```html\n<b># x</b>\n```\n\n# Title\n\n    <i>\n\nand `<u>`"
    text = to_markdown(store, talk_with(store, "How?", answer), tmp_path).read_text(encoding="utf-8")
    assert answer.replace("# Title", "### Title") in text


def test_html_is_one_page_that_fetches_nothing(store: Store) -> None:
    talk = talk_with(store, "What is\nthis?", "A **dog**:\n\n| a | b |\n|---|---|\n| 1 | 2 |", name='a"b.png')
    page = Page(to_html(store, talk))
    elements = [tag for tag, _ in page.elements]
    assert {"img", "strong", "table"} <= set(elements)
    image = next(attributes for tag, attributes in page.elements if tag == "img")
    assert image["src"] == "data:image/png;base64," + base64.b64encode(picture_file()).decode()
    assert image["alt"] == 'a"b.png, 3 x 2'
    assert "What is\nthis?" in page.text
    addresses = [
        value
        for _, attributes in page.elements
        for key, value in attributes.items()
        if key in ("href", "src")
    ]
    assert addresses == [image["src"]]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_becomes_an_element_of_the_page(store: Store, text: str) -> None:
    plain = Page(to_html(store, talk_with(store, "A", "B", "C", "D")))
    hostile = Page(to_html(store, talk_with(store, text, text, "C", "D", name=text)))
    made_by_markdown = {"p", "pre", "code", "ul", "li", "h2", "a", "br"}
    names = [tag for tag, _ in hostile.elements if tag not in made_by_markdown]
    assert names == [tag for tag, _ in plain.elements if tag not in made_by_markdown]
    assert not [key for _, attributes in hostile.elements for key in attributes if key.startswith("on")]
    assert not any(
        (attributes.get("href") or "").startswith("javascript:") for _, attributes in hostile.elements
    )
    assert "\x1b" not in hostile.text and "\x00" not in hostile.text and "\u202e" not in hostile.text


def test_unsupported_formats_become_png_and_missing_pictures_are_noted(store: Store, tmp_path: Path) -> None:
    talk = store.new_conversation()
    scan, gone = (
        store.keep_picture(open_picture(picture_file("TIFF")), "scan.tif"),
        store.keep_picture(open_picture(picture_file(colour="blue")), "gone.png"),
    )
    gone.path.unlink()
    store.add_message(talk.id, None, "user", "", [scan, gone])
    page = to_html(store, talk.id)
    assert page.count("data:image/png;base64,") == 1
    assert "(The picture gone.png, 3 x 2 is missing.)" in page
    text = to_markdown(store, talk.id, tmp_path).read_text(encoding="utf-8")
    assert ".tif)" in text and "*(The picture gone.png is missing.)*" in text


def test_json_transfers_every_branch_setting_and_picture(store: Store, other: Store) -> None:
    talk = talk_with(store, "What?", "A dog", "Its colour?", "Brown")
    question = store.path(talk)[0]
    store.add_message(talk, question.id, "assistant", "A cat", stats={"tokens_per_s": 3.5}, state="failed")
    store.pin(talk)
    store.rename(talk, "Dog [/] or \u202e cat")
    second = talk_with(store, "Second")
    done = from_json(other, to_json(store, [talk, second]))
    assert [info.id for info in done.added] == [talk, second] and done.known == ()
    for one in (talk, second):
        mine, theirs = store.whole(one), other.whole(one)
        assert described(theirs) == described(mine)
    (picture,) = other.path(talk)[0].pictures
    assert picture.path.read_bytes() == picture_file()
    assert len(other.search("dog", 9)) == 4, "the title, an answer and two picture names"


def described(whole: Any) -> dict[str, Any]:
    """All of a conversation but the folder that its pictures lie in."""
    messages = [
        {**vars(one), "pictures": [{**vars(picture), "path": picture.path.name} for picture in one.pictures]}
        for one in whole.messages
    ]
    return {**vars(whole), "messages": messages}


MESSAGES = st.lists(
    st.tuples(
        st.integers(0),
        st.sampled_from(["user", "assistant"]),
        st.text(max_size=40),
        st.lists(st.tuples(st.sampled_from(["red", "blue"]), st.text(max_size=8)), max_size=2),
        st.sampled_from(["done", "stopped", "failed"]),
        st.dictionaries(
            st.text(max_size=5), st.one_of(st.integers(), st.floats(), st.text(max_size=5)), max_size=2
        ),
    ),
    max_size=6,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=MESSAGES, title=st.text(max_size=20))
def test_export_and_import_round_trip(store: Store, other: Store, messages: list[Any], title: str) -> None:
    talk = store.new_conversation({"system_prompt": title.replace("\0", "")})
    ids: list[str | None] = [None]
    for parent, role, text, pictures, state, stats in messages:
        kept = [
            store.keep_picture(open_picture(picture_file(colour=colour)), name) for colour, name in pictures
        ]
        made = store.add_message(talk.id, ids[parent % len(ids)], role, text, kept, state, stats)
        ids.append(made.id)
    exported = to_json(store, [talk.id])
    assert [info.id for info in from_json(other, exported).added] == [talk.id]
    assert described(other.whole(talk.id)) == described(store.whole(talk.id))
    assert to_json(other, [talk.id]) == exported
    assert [info.id for info in from_json(other, exported).known] == [talk.id]


def test_importing_again_changes_nothing_and_restores_deleted_ones(store: Store) -> None:
    talk = talk_with(store, "What?", "A dog")
    exported = to_json(store, [talk])
    store.delete(talk)
    done = from_json(store, exported)
    assert (done.added, [info.id for info in done.known]) == ((), [talk])
    assert [info.id for info in store.conversations(9)] == [talk]


def test_a_conversation_that_continued_is_not_overwritten_by_its_older_export(store: Store) -> None:
    talk = talk_with(store, "What?", "A dog")
    exported = to_json(store, [talk])
    store.add_message(talk, store.leaf(talk), "user", "More")
    (copy,) = from_json(store, exported).added
    assert copy.id != talk
    assert [message.text for message in store.path(talk)] == ["What?", "A dog", "More"]
    assert [message.text for message in store.path(copy.id)] == ["What?", "A dog"]


def test_an_answer_still_being_written_arrives_stopped(store: Store, other: Store) -> None:
    talk = talk_with(store, "What?")
    store.add_message(talk, store.leaf(talk), "assistant", "A d", state="writing")
    from_json(other, to_json(store, [talk]))
    assert other.path(talk)[-1].state == "stopped"


def test_a_missing_picture_stays_missing_but_keeps_its_place(store: Store, other: Store) -> None:
    talk = talk_with(store, "What?")
    store.path(talk)[0].pictures[0].path.unlink()
    from_json(other, to_json(store, [talk]))
    picture: StoredPicture = other.path(talk)[0].pictures[0]
    assert (picture.name, picture.width, picture.path.exists()) == ("dog.png", 3, False)


def changed(change: Callable[[Any], object]) -> Callable[[str], str]:
    def apply(exported: str) -> str:
        document = json.loads(exported)
        change(document)
        return json.dumps(document)

    return apply


def first(document: Any) -> Any:
    return document["conversations"][0]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "",
        lambda text: "[" * 100_000,
        lambda text: '{"a": 1}',
        lambda text: text[:-20],
        lambda text: b"\xff\xfe\x00",
        changed(lambda document: document.update(version=2)),
        changed(lambda document: document.update(conversations={})),
        changed(lambda document: document.update(pictures=[])),
        changed(lambda document: document.update(pictures={})),
        changed(lambda document: document.update(pictures={"../../x": {}})),
        changed(lambda document: next(iter(document["pictures"].values())).update(data="AAAA")),
        changed(lambda document: next(iter(document["pictures"].values())).update(data="?")),
        changed(lambda document: next(iter(document["pictures"].values())).update(format="../X")),
        changed(lambda document: first(document).update(id="../../etc")),
        changed(lambda document: first(document).update(created=10**400)),
        changed(lambda document: first(document).update(created=float("nan"))),
        changed(lambda document: first(document).update(pinned="yes")),
        changed(lambda document: first(document).update(leaf="nowhere")),
        changed(lambda document: first(document).update(settings=[])),
        changed(lambda document: first(document)["messages"][0].update(role="system")),
        changed(lambda document: first(document)["messages"][0].update(state="")),
        changed(lambda document: first(document)["messages"][0].update(text=None)),
        changed(lambda document: first(document)["messages"][0].update(stats={"a": []})),
        changed(lambda document: first(document)["messages"].reverse()),
        changed(
            lambda document: first(document)["messages"][1].update(id=first(document)["messages"][0]["id"])
        ),
    ],
)
def test_a_spoiled_file_is_refused_in_a_sentence_and_nothing_of_it_is_kept(
    store: Store, other: Store, spoil: Callable[[str], str | bytes]
) -> None:
    exported = to_json(store, [talk_with(store, "One"), talk_with(store, "What?", "A dog")][::-1])
    with pytest.raises(Minigpt4Error) as error:
        from_json(other, spoil(exported))
    assert str(error.value).endswith(".") and len(str(error.value)) < 300
    assert isinstance(error.value, StoreError)
    assert other.conversations(9) == []
