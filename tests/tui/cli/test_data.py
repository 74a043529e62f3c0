"""`minigpt4 data` as people run it: lists become shards, and photos are looked through before training."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., "subprocess.CompletedProcess[str]"]

LAION, CC_SBU = "laion_synthetic_filtered_large.json", "ccs_synthetic_filtered_large.json"

STAND_IN = """#!{python}
# Fetches nothing: writes the shards and statistics that img2dataset would, every fifth link dead.
import io, json, os, pathlib, signal, sys, tarfile
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
folder = pathlib.Path(given["--output_folder"])
folder.mkdir(exist_ok=True)
pairs = [json.loads(line) for line in open(given["--url_list"], encoding="utf-8")]
size = int(given["--number_sample_per_shard"])
photo = pathlib.Path(__file__).with_name("photo.jpg").read_bytes()
print("fetching", len(pairs))
for shard in range(-(-len(pairs) // size)):
    stats = folder / f"{{shard:05d}}_stats.json"
    if stats.exists():
        continue
    if os.environ.get("STUCK_AT") == str(shard):
        def stop(*_):
            (folder / "was_interrupted").touch()
            sys.exit(0)
        signal.signal(signal.SIGINT, stop)
        open(os.environ["STUCK_PIPE"], "w").write("stuck")
        signal.pause()
    if os.environ.get("GIVES_UP_ON") == str(shard):
        continue
    some = pairs[shard * size : (shard + 1) * size]
    with tarfile.open(folder / f"{{shard:05d}}.tar", "w") as archive:
        for place, pair in enumerate(some):
            if place % 5:
                for suffix, content in (("jpg", photo), ("txt", pair["caption"].encode())):
                    member = tarfile.TarInfo(f"{{shard:05d}}{{place:04d}}.{{suffix}}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    dead = len(some[::5])
    stats.write_text(json.dumps({{"count": len(some), "successes": len(some) - dead,
        "status_dict": {{"success": len(some) - dead, "HTTP Error 404: Not Found": dead}}}}))
sys.exit(int(os.environ.get("ENDS_WITH", "0")))
"""


def jpeg(seed: int, size: tuple[int, int] = (160, 120)) -> bytes:
    values = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(values).resize(size, Image.Resampling.BICUBIC).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    """Both released lists in small, in the folder in which the program runs."""
    for name, count in ((LAION, 4000), (CC_SBU, 900)):
        rows = [
            {"caption": f"Thing {place} of {name[:3]}.", "url": f"http://x.org/{place}"}
            for place in range(count)
        ]
        (tmp_path / name).write_text(json.dumps(rows))
    return tmp_path


@pytest.fixture
def with_program(tmp_path: Path) -> dict[str, str]:
    """An environment in which img2dataset is a stand-in."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "img2dataset"
    program.write_text(STAND_IN.format(python=sys.executable))
    program.chmod(0o755)
    (folder / "photo.jpg").write_bytes(jpeg(1))
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture
def without_program(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "empty").mkdir()
    return {"PATH": str(tmp_path / "empty")}


CHOOSE: Sequence[str] = ("data", "prepare", LAION, CC_SBU, "-n", "2580", "-o", "out")


def test_prepare_writes_lists_and_prints_what_fetches_them(
    run_minigpt4: Run, lists: Path, without_program: dict[str, str]
) -> None:
    done = run_minigpt4(*CHOOSE, env=without_program)
    assert done.returncode == 0, done.stderr
    commands = done.stdout.splitlines()
    assert [command.split()[0] for command in commands] == ["img2dataset", "img2dataset"]
    assert f"--url_list {lists}/out/laion.jsonl" in commands[0]
    assert f"--output_folder {lists}/out/cc_sbu" in commands[1]
    # 115 : 14, as recipe stage1 has it.
    assert len((lists / "out" / "laion.jsonl").read_text().splitlines()) == 2300
    assert len((lists / "out" / "cc_sbu.jsonl").read_text().splitlines()) == 280
    assert "2,300 of 4,000 pairs, seed 0" in done.stderr
    assert "the disk has" in done.stderr


def test_run_fetches_and_tells_how_many_links_were_dead(
    run_minigpt4: Run, lists: Path, with_program: dict[str, str]
) -> None:
    done = run_minigpt4(*CHOOSE, "--run", env=with_program)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "laion: 1,840 photos from 3 of 3 shards; 460 of 2,300 links were dead" in done.stderr
    assert "460  HTTP Error 404: Not Found" in done.stderr
    assert "cc_sbu: 224 photos from 1 of 1 shards" in done.stderr
    assert "minigpt4 train --recipe stage1 --data out" in done.stderr
    looked = run_minigpt4("data", "inspect", "out/laion", "out/cc_sbu", "--json")
    assert looked.returncode == 0, looked.stderr
    assert [one["photos"] for one in json.loads(looked.stdout)["sets"]] == [1840, 224]


def test_the_same_command_again_fetches_what_is_missing(
    run_minigpt4: Run, lists: Path, with_program: dict[str, str]
) -> None:
    failed = run_minigpt4(*CHOOSE, "--run", env=with_program | {"GIVES_UP_ON": "1"})
    assert failed.returncode == 1
    assert "minigpt4: img2dataset left 1 of 3 shards out for 'laion'" in failed.stderr.splitlines()[-1]
    first = (lists / "out" / "laion" / "00000_stats.json").stat().st_mtime_ns
    for name in (LAION, CC_SBU):
        (lists / name).unlink()
    done = run_minigpt4("data", "prepare", "-o", "out", "--run", env=with_program)
    assert done.returncode == 0, done.stderr
    assert "3 of 3 shards" in done.stderr
    assert (lists / "out" / "laion" / "00000_stats.json").stat().st_mtime_ns == first
    again = run_minigpt4("data", "prepare", "-o", "out", "--run", env=with_program)
    assert "fetching" not in again.stderr
    assert "3 of 3 shards" in again.stderr


def test_a_failure_of_the_program_is_reported_with_its_code(
    run_minigpt4: Run, lists: Path, with_program: dict[str, str]
) -> None:
    done = run_minigpt4(*CHOOSE, "--run", env=with_program | {"ENDS_WITH": "3"})
    assert done.returncode == 1
    assert "img2dataset ended with code 3 for 'laion'" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_one_process_fetches_at_a_time_and_an_interrupt_reaches_it(
    run_minigpt4: Run, lists: Path, with_program: dict[str, str], number: signal.Signals, code: int
) -> None:
    os.mkfifo(lists / "pipe")
    env = {**os.environ, **with_program, "STUCK_AT": "1", "STUCK_PIPE": str(lists / "pipe")}
    program = Path(sysconfig.get_path("scripts")) / "minigpt4"
    with subprocess.Popen(
        [program, *CHOOSE, "--run"], cwd=lists, env=env, stderr=subprocess.PIPE, text=True
    ) as process:
        assert (lists / "pipe").read_text() == "stuck"
        second = run_minigpt4("data", "prepare", "-o", "out", "--run", env=with_program)
        assert "Another process is fetching out/laion" in second.stderr.splitlines()[-1]
        process.send_signal(number)
        _, output = process.communicate(timeout=60)
    assert process.returncode == code
    assert (lists / "out" / "laion" / "was_interrupted").exists()
    assert "laion: 800 photos from 1 of 3 shards" in output
    assert "the same command resumes" in output


def test_a_missing_program_is_reported_before_anything_is_read(
    run_minigpt4: Run, lists: Path, without_program: dict[str, str]
) -> None:
    done = run_minigpt4(*CHOOSE, "--run", env=without_program)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "The program img2dataset is not on the PATH" in done.stderr
    assert not (lists / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["prepare", "none.json", "-n", "5"], "The list none.json does not exist; check the path."),
        (["prepare", LAION], "How many pairs are to be chosen? Give their number with -n."),
        (["prepare", LAION, "-n", "5000"], "which has 4000; choose fewer with -n"),
        (["prepare", LAION, "-n", "9", "--ratio", "1:x"], "--ratio is '1:x'; write a number above 0"),
        (["prepare", LAION, "-n", "9", "--ratio", "nan"], "--ratio is 'nan'; write a number above 0"),
        (["prepare"], "data holds no chosen pairs to continue with"),
        (
            ["prepare", LAION, "-n", "9", "--bundle", "mimi"],
            "There is no bundle 'mimi'; did you mean 'mini'?",
        ),
        (["inspect"], "Missing argument 'PLACE'"),
        (["inspect", "none"], "none"),
        (["inspect", ".", "--recipe", "stage3"], "There is no recipe 'stage3'; did you mean 'stage"),
        (
            ["inspect", ".", "--sheet", "x.gif"],
            "A contact sheet is an .html or a .png file, and 'x.gif' is neither.",
        ),
    ],
)
def test_wrong_usage_is_one_line(
    call_minigpt4: Run, lists: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str
) -> None:
    monkeypatch.chdir(lists)
    done = call_minigpt4("data", *arguments)
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    assert sentence in done.stderr.splitlines()[-1]
    assert done.stderr.splitlines()[-1].startswith("minigpt4: ")


@pytest.fixture
def own_pictures(tmp_path: Path) -> Path:
    """A person's folder: photos with a list, one of them twice, one broken, one that nobody described."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, content in (
        ("a.jpg", jpeg(1)),
        ("b.jpg", jpeg(2)),
        ("again.jpg", jpeg(1)),
        ("smaller.jpg", jpeg(1, (80, 60))),
        ("cut.jpg", jpeg(3)[:300]),
        ("gone[red].jpg", b""),
    ):
        (folder / name).write_bytes(content)
    rows = [
        {"photo": "a.jpg", "caption": "A grey cat sleeps on a chair."},
        {"photo": "a.jpg", "caption": "A cat on a chair in the sun, and what a chair that is."},
        {"photo": "b.jpg", "caption": "A dog [bold]barks[/bold]."},
        {"photo": "again.jpg", "caption": "The same cat again."},
        {"photo": "smaller.jpg", "caption": "The cat from afar."},
        {"photo": "cut.jpg", "caption": "A half picture of it."},
        {"photo": "gone[red].jpg", "caption": "An empty file it is."},
        {"photo": "b.jpg", "caption": ""},
    ]
    (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def test_inspect_reports_what_a_person_should_know(run_minigpt4: Run, own_pictures: Path) -> None:
    done = run_minigpt4("data", "inspect", "mine", "--recipe", "stage1", "--sheet", "sheet.html")
    assert done.returncode == 0, done.stderr
    lines = {line[:16].strip(): line[18:] for line in done.stdout.splitlines() if line[:16].strip()}
    assert lines["mine"] == "4 photos, 5 captions"
    assert lines["skipped"] == "2 (33.3%)"
    assert "cut.jpg: " in done.stdout
    assert "gone[red].jpg: " in done.stdout
    assert "A run stops if more than 5% are bad" in done.stdout
    assert lines["shorter side"].startswith("60 to 120 pixels, median 120; 4 below the 224")
    assert lines["kinds"] == "JPEG 4; RGB 4"
    assert lines["captions"].startswith("1 to 2 a photo, of 3 to 14 words")
    assert "the vocabulary of minigpt4-vicuna-13b is not here" in lines["cut"]
    assert lines["same file"] == "1 group, 2 photos"
    assert lines["look alike"] == "1 group, 3 photos"
    page = (own_pictures.parent / "sheet.html").read_text("utf-8")
    assert page.count("<img") == 4 + 2 + 3
    assert "A dog [bold]barks[/bold]." in page


def test_inspect_tells_programs_everything(run_minigpt4: Run, own_pictures: Path) -> None:
    done = run_minigpt4("data", "inspect", "mine", "--json")
    found = json.loads(done.stdout)
    assert found["photos"] == 4
    assert {one["key"] for one in found["left_out"]} == {"cut.jpg", "gone[red].jpg"}
    assert found["captions"]["count"] == 5
    assert found["captions"]["limit"] == 0
    assert found["captions"]["cut"] == 0
    assert [[one["key"] for one in group] for group in found["same_file"]] == [["a.jpg", "again.jpg"]]
    assert found["look_alike"][0][-1] == {"set": "mine", "key": "smaller.jpg"}
    assert found["shorter_side"] == {"least": 60, "median": 120.0, "most": 120}


def test_inspect_counts_in_the_bundles_tokens(mini_home: Path, run_minigpt4: Run, own_pictures: Path) -> None:
    done = run_minigpt4(
        "data",
        "inspect",
        "mine",
        "--bundle",
        "mini",
        "--recipe",
        "short.toml",
        cwd=short_recipe(own_pictures),
    )
    assert done.returncode == 0, done.stderr
    assert "tokens, median" in done.stdout
    assert "1 (20.0%) have more than 12 tokens and lose their end" in done.stdout


def short_recipe(own_pictures: Path) -> Path:
    """Write mini's recipe with short texts beside the pictures; their folder."""
    from minigpt4.train.recipe_file import read_recipe, recipe_path, recipe_toml, with_settings

    recipe = with_settings(read_recipe(recipe_path("mini-stage1")), ["text_tokens=12"])
    (own_pictures.parent / "short.toml").write_text(recipe_toml(recipe))
    return own_pictures.parent


def test_photos_in_two_sets_are_reported(run_minigpt4: Run, own_pictures: Path, tmp_path: Path) -> None:
    other = tmp_path / "held" / "mine"
    other.mkdir(parents=True)
    (other / "x.jpg").write_bytes(jpeg(2))
    (other / "x.txt").write_text("A dog once more.")
    done = run_minigpt4("data", "inspect", "mine", "held/mine")
    assert done.returncode == 0, done.stderr
    assert "mine: b.jpg, held/mine: x" in done.stdout
    assert "in several sets   1 of these groups" in done.stdout


def test_photos_none_of_which_can_be_used_fail_in_one_line(run_minigpt4: Run, tmp_path: Path) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "x.jpg").write_bytes(b"no picture")
    (folder / "x.txt").write_text("A dog.")
    done = run_minigpt4("data", "inspect", "bad")
    assert (done.returncode, done.stdout) == (1, "")
    assert "None of the 1 photos can be used; the first, x" in done.stderr.splitlines()[-1]


def test_a_cut_shard_still_tells_of_its_other_photos(run_minigpt4: Run, tmp_path: Path) -> None:
    path = tmp_path / "s.tar"
    with tarfile.open(path, "w") as archive:
        for place in range(3):
            for suffix, content in (("jpg", jpeg(place)), ("txt", b"A dog that runs.")):
                member = tarfile.TarInfo(f"k{place}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 5])
    done = run_minigpt4("data", "inspect", "s.tar")
    assert done.returncode == 0, done.stderr
    assert "skipped           2 " in done.stdout
    assert "cut off or damaged" in done.stdout


def test_inspect_names_rows_that_would_be_lost(run_minigpt4: Run, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(jpeg(1))
    (folder / "captions.csv").write_text("photo,caption\na.jpg,A cat on a chair.\na.jpg,A cat, asleep\n")
    done = run_minigpt4("data", "inspect", "mine")
    assert done.returncode == 0, done.stderr
    assert "captions.csv, line 3: more fields than the heading names" in done.stdout
    (folder / "captions.csv").write_text('photo,caption\na.jpg,"A cat.\na.jpg,A cat on a chair.\n')
    done = run_minigpt4("data", "inspect", "mine")
    assert (done.returncode, done.stdout) == (1, "")
    assert "the quote that begins in line 2 is never closed" in done.stderr.splitlines()[-1]
