"""The database file: several processes, killed processes, older, newer, damaged and locked files."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from minigpt4.tui.history import schema as store_schema
from minigpt4.tui.history.schema import MIGRATIONS, VERSION
from minigpt4.tui.history.store import Store, StoreError

BEGIN = """import sys
from pathlib import Path
from minigpt4.tui.history.store import Store
path = Path(sys.argv[1])
"""

WRITE_WITHOUT_END = """
store = Store.open(path)
talk = store.new_conversation()
answer = store.add_message(talk.id, None, "assistant", "", state="writing")
text = ""
for number in range(10**9):
    text += f"{number} "
    store.update_text(answer.id, text, "writing")
    if number == 20:
        print(answer.id, flush=True)
"""

ADD_MANY = """
store = Store.open(path)
print("open", flush=True)
talk = sys.stdin.readline().strip()
for number in range(60):
    message = store.add_message(talk, None, "user", f"{sys.argv[2]} {number}", state="writing")
    store.update_text(message.id, f"{sys.argv[2]} {number}", "done")
"""

HOLD_LOCK = """
import sqlite3
connection = sqlite3.connect(path, isolation_level=None)
connection.execute("BEGIN " + sys.argv[2])
print("locked", flush=True)
sys.stdin.readline()
"""

OPEN_AS_NOBODY = """
import os
from minigpt4.core.errors import Minigpt4Error
if os.getuid() == 0:
    os.setuid(65534)
try:
    Store.open(path).new_conversation()
except Minigpt4Error as error:
    print(error)
"""


def child(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BEGIN + script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def line_from(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "conversations.sqlite3"


@pytest.fixture
def kept(path: Path) -> Path:
    """A file with one conversation in it, and no process that has it open."""
    store = Store.open(path)
    store.add_message(store.new_conversation().id, None, "user", "Are you there?")
    store.close()
    return path


@pytest.fixture
def opened() -> Iterator[list[Store]]:
    """Stores to be closed after the test."""
    stores: list[Store] = []
    yield stores
    for store in stores:
        store.close()


def test_two_processes_begin_the_same_file_and_write_at_once(path: Path) -> None:
    processes = [child(ADD_MANY, path, name) for name in ("one", "two")]
    assert [line_from(process) for process in processes] == ["open", "open"]
    store = Store.open(path)
    talk = store.new_conversation()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(f"{talk.id}\n")
        process.stdin.flush()
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    texts = {message.text for message in store.whole(talk.id).messages}
    assert texts == {f"{name} {number}" for name in ("one", "two") for number in range(60)}
    assert store.get(talk.id).messages == 120
    assert len(store.search("one", 200)) == 60
    assert store.integrity() == []
    store.close()


def test_an_answer_that_a_killed_process_was_writing_is_kept_and_called_stopped(
    path: Path, opened: list[Store]
) -> None:
    process = child(WRITE_WITHOUT_END, path)
    answer = line_from(process)
    store = Store.open(path)
    opened.append(store)
    assert store.recover() == 0, "the process still lives"
    assert store.message(answer).state == "writing"
    process.kill()
    process.wait()
    assert store.recover() == 1
    message = store.message(answer)
    numbers = [int(word) for word in message.text.split()]
    assert message.state == "stopped"
    assert numbers == list(range(len(numbers))) and len(numbers) > 20
    assert [hit.message_id for hit in store.search('"19 20"', 3)] == [answer]
    assert store.recover() == 0
    assert store.integrity() == []
    assert list((path.parent / "writers").iterdir()) == []


def test_messages_of_a_running_second_instance_are_left_alone_until_it_ends(
    path: Path, opened: list[Store]
) -> None:
    first, second = Store.open(path), Store.open(path)
    opened.append(second)
    talk = first.new_conversation()
    answer = first.add_message(talk.id, None, "assistant", "So", state="writing")
    assert (first.recover(), second.recover()) == (0, 0)
    first.close()
    assert second.recover() == 1
    assert second.message(answer.id).state == "stopped"


def test_a_locked_file_is_still_read_and_writing_gives_up_in_a_sentence(
    kept: Path, opened: list[Store]
) -> None:
    process = child(HOLD_LOCK, kept, "IMMEDIATE")
    assert line_from(process) == "locked"
    store = Store.open(kept, lock_timeout=0.05)
    opened.append(store)
    assert len(store.conversations(9)) == 1
    with pytest.raises(StoreError, match=r"locked by another program for over 0\.05 s; close it"):
        store.new_conversation()
    process.communicate("\n")
    store.new_conversation()
    assert len(store.conversations(9)) == 2


def test_a_new_file_that_another_program_holds_is_a_sentence_too(path: Path) -> None:
    process = child(HOLD_LOCK, path, "EXCLUSIVE")
    assert line_from(process) == "locked"
    with pytest.raises(StoreError, match="locked by another program"):
        Store.open(path, lock_timeout=0.05)
    process.communicate("\n")
    Store.open(path).close()


def test_a_read_only_file_is_named_with_the_way_out() -> None:
    # Not in pytest's own folder, which other users may not enter.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "conversations.sqlite3"
        Store.open(path).close()
        path.chmod(0o444)
        folder.chmod(0o555)
        try:
            output, _ = child(OPEN_AS_NOBODY, path).communicate(timeout=60)
        finally:
            folder.chmod(0o755)
    assert f"'{path}' are read-only for this user; make the file" in output


def test_a_folder_in_the_files_place_is_named(path: Path) -> None:
    path.mkdir()
    with pytest.raises(StoreError, match="is a folder"):
        Store.open(path)
    (path / "file").touch()
    with pytest.raises(StoreError, match="cannot be used"):
        Store.open(path / "file" / "conversations.sqlite3")


def test_a_file_of_a_newer_version_is_refused_and_left_as_it_is(kept: Path) -> None:
    connection = sqlite3.connect(kept)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = kept.read_bytes()
    with pytest.raises(
        StoreError, match=rf"newer minigpt4 \(format 99, this one supports {VERSION}\)"
    ) as error:
        Store.open(kept)
    assert str(kept) in str(error.value)
    assert kept.read_bytes() == before
    assert [one.name for one in kept.parent.iterdir()] == [kept.name]


def test_another_programs_database_is_left_as_it_is(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE recipes (name)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program's database"):
        Store.open(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", ["no database", "header", "cut off", "first page"])
def test_a_damaged_file_is_set_aside_byte_for_byte_and_a_new_one_begun(kept: Path, damage: str) -> None:
    data = kept.read_bytes()
    broken = {
        "no database": b"My diary. " * 100,
        "header": b"\0" * 16 + data[16:],
        "cut off": data[: len(data) // 2],
        "first page": data[:100] + b"\xff" * 3000 + data[3100:],
    }[damage]
    kept.write_bytes(broken)
    store = Store.open(kept)
    assert store.conversations(9) == []
    store.new_conversation()
    (aside,) = kept.parent.glob("*.damaged-*.sqlite3")
    assert aside.read_bytes() == broken
    assert store.notice is not None and f"moved aside, unchanged, to '{aside}'" in store.notice
    store.close()
    again = Store.open(kept)
    assert again.notice is None and len(again.conversations(9)) == 1
    again.close()
    kept.write_bytes(broken)
    Store.open(kept).close()
    assert sorted(one.read_bytes() == broken for one in kept.parent.glob("*.damaged-*.sqlite3")) == [
        True,
        True,
    ]


def test_damage_found_later_is_a_sentence_with_the_way_out(kept: Path) -> None:
    store = Store.open(kept)
    talk = store.new_conversation()
    for number in range(200):
        store.add_message(talk.id, None, "user", f"{number} " + "word " * 200)
    store.close()
    data = bytearray(kept.read_bytes())
    middle = len(data) // 3 // 4096 * 4096
    data[middle:] = b"\xa5" * (len(data) - middle)
    kept.write_bytes(data)
    with pytest.raises(StoreError, match=r"damaged .*minigpt4 history export --all"):
        store = Store.open(kept)
        assert store.integrity() != []
        store.whole(talk.id)


def old_file(path: Path, version: int) -> None:
    """A file as the minigpt4 of that version left it, with a conversation in it."""
    connection = sqlite3.connect(path)
    for script in MIGRATIONS[:version]:
        connection.executescript(script)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.execute(f"PRAGMA application_id = {store_schema.APPLICATION_ID}")
    connection.execute(
        "INSERT INTO conversations (id, title, named, created, updated, leaf, messages) "
        "VALUES ('c1', 'Our cat', 1, 1, 1, 'm1', 1)"
    )
    connection.execute(
        "INSERT INTO messages (id, conversation, role, text, state, created) "
        "VALUES ('m1', 'c1', 'user', 'Is it a zebra?', 'done', 1)"
    )
    connection.commit()
    connection.close()


def schema(path: Path) -> list[tuple[str, str]]:
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
    connection.close()
    return rows


@pytest.mark.parametrize("version", range(1, VERSION + 1))
def test_a_file_of_every_older_version_becomes_a_new_one_with_all_it_held(
    tmp_path: Path, version: int
) -> None:
    old, new = tmp_path / "old.sqlite3", tmp_path / "new.sqlite3"
    old_file(old, version)
    store = Store.open(old)
    assert [message.text for message in store.path("c1")] == ["Is it a zebra?"]
    assert [hit.message_id for hit in store.search("zebra", 9)] == ["m1"]
    assert [hit.message_id for hit in store.search("cat", 9)] == [None]
    assert store.integrity() == []
    store.close()
    Store.open(new).close()
    assert schema(old) == schema(new)


def test_a_migration_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "old.sqlite3"
    old_file(path, VERSION)
    before = schema(path)
    wrong = "CREATE TABLE tags (name TEXT);\nINSERT INTO nowhere VALUES (1);\n"
    monkeypatch.setattr(store_schema, "MIGRATIONS", (*MIGRATIONS, wrong))
    monkeypatch.setattr(store_schema, "VERSION", VERSION + 1)
    with pytest.raises(StoreError, match="no such table: nowhere"):
        Store.open(path)
    monkeypatch.undo()
    assert schema(path) == before
    store = Store.open(path)
    assert len(store.path("c1")) == 1
    store.close()


def test_the_database_uses_wal_so_that_readers_never_wait(kept: Path) -> None:
    store = Store.open(kept)
    assert sqlite3.connect(kept).execute("PRAGMA journal_mode").fetchone() == ("wal",)
    store.new_conversation()
    assert kept.with_name(f"{kept.name}-wal").stat().st_mode & 0o777 == 0o600
    store.close()


def test_importing_the_store_loads_neither_numpy_nor_pillow() -> None:
    script = "print([name for name in ('numpy', 'PIL', 'torch') if name in sys.modules])"
    output, _ = child(script, "none").communicate(timeout=60)
    assert output == "[]\n"
