"""The command line of img2dataset, and the counts from its statistics."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from minigpt4.core.errors import DataError
from minigpt4.train.prepare.choose import ListSample, Prepared
from minigpt4.train.prepare.img2dataset import Download, downloads, fetched

Stats = Callable[..., None]


@pytest.fixture
def download(tmp_path: Path) -> Download:
    return Download(
        name="laion",
        pairs_file=tmp_path / "laion.jsonl",
        folder=tmp_path / "laion",
        pairs=2500,
        image_size=224,
        original_size=False,
        processes=3,
    )


@pytest.fixture
def write_stats(download: Download) -> Stats:
    download.folder.mkdir()

    def write(shard: int, successes: int, count: int = 1000, **reasons: int) -> None:
        failures = {text.replace("_", " "): times for text, times in reasons.items()}
        stats = {
            "count": count,
            "successes": successes,
            "failed_to_download": count - successes,
            "failed_to_resize": 0,
            "status_dict": {"success": successes} | failures,
        }
        (download.folder / f"{shard:05d}_stats.json").write_text(json.dumps(stats))

    return write


def options(command: list[str]) -> dict[str, str]:
    assert len(command) % 2 == 1
    return dict(zip(command[1::2], command[2::2], strict=True))


def test_photos_are_neither_cropped_nor_enlarged(download: Download) -> None:
    given = options(download.command)
    assert download.command[0] == "img2dataset"
    assert given["--image_size"] == "224"
    assert given["--resize_mode"] == "keep_ratio"
    assert given["--resize_only_if_bigger"] == "True"
    whole = options(replace(download, original_size=True).command)
    assert whole["--resize_mode"] == "no"
    assert whole["--skip_reencode"] == "True"


def test_a_download_resumes_with_the_same_shards(download: Download) -> None:
    given = options(download.command)
    assert given["--incremental_mode"] == "incremental"
    assert int(given["--number_sample_per_shard"]) == download.shard_pairs == 1000
    assert download.shards == 3
    large = replace(download, pairs=5_000_000)
    assert (large.shard_pairs, large.shards) == (10_000, 500)


def test_paths_are_absolute_so_that_none_is_parsed_as_a_number_or_a_list(
    download: Download, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    given = options(replace(download, pairs_file=Path("1,2.jsonl"), folder=Path("12")).command)
    assert given["--url_list"] == str(tmp_path / "1,2.jsonl")
    assert given["--output_folder"] == str(tmp_path / "12")


def test_each_list_of_a_prepared_folder_has_a_separate_folder_of_shards(tmp_path: Path) -> None:
    shares = tuple(ListSample(name=name, file="f", size=1, rows=9, pairs=5) for name in ("laion", "cc_sbu"))
    prepared = Prepared(folder=tmp_path, seed=0, image_size=260, original_size=True, shares=shares)
    folders = [download.folder for download in downloads(prepared, 2)]
    assert folders == [tmp_path / "laion", tmp_path / "cc_sbu"]
    assert all(download.image_size == 260 and download.original_size for download in downloads(prepared, 2))


def test_a_download_that_has_not_run_is_empty(download: Download) -> None:
    state = fetched(download)
    assert (state.done, state.tried, state.photos, state.lost, state.poor) == (0, 0, 0, 0, ())


def test_dead_links_are_counted_by_reason(download: Download, write_stats: Stats) -> None:
    write_stats(0, 900, **{"HTTP_Error_404:_Not_Found": 100})
    write_stats(
        2,
        880,
        **{
            "HTTP_Error_404:_Not_Found": 90,
            "<urlopen_error_timed_out>": 10,
            "The_read_operation_timed_out": 5,
            "<urlopen_error_[Errno_-2]_Name_or_service_not_known>": 6,
            "<urlopen_error_[SSL:_CERTIFICATE_VERIFY_FAILED]_certificate_verify_failed:_a.org>": 4,
            "<urlopen_error_[SSL:_CERTIFICATE_VERIFY_FAILED]_certificate_verify_failed:_b.org>": 5,
        },
    )
    state = fetched(download)
    assert (state.done, state.tried, state.photos, state.lost) == (2, 2000, 1780, 220)
    assert state.failures == {
        "HTTP Error 404: Not Found": 190,
        "timed out": 15,
        "certificate verify failed": 9,
        "Name or service not known": 6,
    }


def test_a_shard_that_was_downloaded_offline_is_reported_as_poor(
    download: Download, write_stats: Stats
) -> None:
    write_stats(0, 800)
    write_stats(1, 30)
    write_stats(2, 760)
    assert fetched(download).poor == ("00001",)


@pytest.mark.parametrize(
    "content", ["", "[]", '{"count": 3}', '{"count": 1, "successes": 1, "status_dict": 2}']
)
def test_damaged_statistics_are_an_error_with_a_remedy(
    download: Download, write_stats: Stats, content: str
) -> None:
    path: Any = download.folder / "00000_stats.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"00000_stats\.json .*delete it to fetch its shard again"):
        fetched(download)
