"""Chat templates for files that have none, or a wrong one: by name, or from the user's own file."""

from __future__ import annotations

import json
from pathlib import Path

from minigpt4.core.chat_template.template import MOST_SOURCE
from minigpt4.core.errors import UsageError
from minigpt4.core.text import suggestion

FOLDER = Path(__file__).with_name("named")


def template_names() -> list[str]:
    """The names that `read_template` knows, in order."""
    return sorted(path.stem for path in FOLDER.glob("*.jinja"))


def read_template(choice: str) -> str:
    """The source of the template of that name, or in that file.

    A file holds the template itself or, as JSON, a `chat_template` as in Hugging Face folders
    (tokenizer_config.json). Raises UsageError for an unknown name or a file that holds none.
    """
    if choice in template_names():
        return (FOLDER / f"{choice}.jinja").read_text(encoding="utf-8")
    path = Path(choice).expanduser()
    if not path.exists() and path.name == choice and not path.suffix:
        raise UsageError(
            f"There is no chat template '{choice}'; {suggestion(choice, template_names())} "
            "A file is named by its path."
        )
    source = _in_json(path) if path.suffix == ".json" else _text(path)
    if not source.strip():
        raise UsageError(f"{path} holds no chat template; name a file in Jinja, or one of {_all()}.")
    return source


def _text(path: Path) -> str:
    try:
        if not path.is_file():
            raise UsageError(f"{path} is no file; name a chat template's file, or one of {_all()}.")
        with path.open(encoding="utf-8") as file:
            source = file.read(4 * MOST_SOURCE + 1)
    except UnicodeDecodeError:
        raise UsageError(f"{path} is no text; name a chat template's file, or one of {_all()}.") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}; name another file.") from error
    return source


def _in_json(path: Path) -> str:
    try:
        content = json.loads(_text(path))
    except (ValueError, RecursionError):
        raise UsageError(f"{path} is not JSON, or is cut short; name another file.") from None
    found = content.get("chat_template") if isinstance(content, dict) else None
    if isinstance(found, list):  # several named templates, one of them the default
        named = [one for one in found if isinstance(one, dict)]
        found = next((one.get("template") for one in named if one.get("name") == "default"), "")
    return found if isinstance(found, str) else ""


def _all() -> str:
    return ", ".join(template_names())
