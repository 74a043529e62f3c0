"""Templates by name and from files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from minigpt4.core.chat_template.named_templates import read_template
from minigpt4.core.errors import UsageError


def test_a_file_holds_the_template_or_names_it_as_hugging_face_does(tmp_path: Path) -> None:
    plain, config, several = (tmp_path / name for name in ("own.jinja", "tokenizer_config.json", "two.json"))
    plain.write_text("plain")
    config.write_text(json.dumps({"chat_template": "in JSON"}))
    named = [{"name": "tools", "template": "for tools"}, {"name": "default", "template": "the usual one"}]
    several.write_text(json.dumps({"chat_template": named}))
    assert read_template(str(plain)) == "plain"
    assert read_template(str(config)) == "in JSON"
    assert read_template(str(several)) == "the usual one"


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="There is no chat template 'chatlm'; did you mean 'chatml'"):
        read_template("chatlm")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.jinja", b"\xff\xfe\x00", "is no text"),
        ("a.jinja", b" \n", "holds no chat template"),
        ("a.json", b"{", "is not JSON"),
        ("a.json", b"[" * 100_000, "is not JSON"),
        ("a.json", b'{"chat_template": 7}', "holds no chat template"),
        ("a.json", b"[1]", "holds no chat template"),
    ],
)
def test_a_file_without_a_template_is_named(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UsageError, match=reason) as caught:
        read_template(str(path))
    assert str(path) in str(caught.value)


def test_a_folder_and_a_missing_file_are_no_templates(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.jinja"):
        with pytest.raises(UsageError, match="is no file"):
            read_template(str(path))
