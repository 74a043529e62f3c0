"""What a download will take is known before its first byte, counted over all files, and may be refused."""

from __future__ import annotations

from typing import Any

import pytest

from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.download import fetch
from minigpt4.core.download.fetch import (
    FetchPlan,
    FetchProgress,
    ensure,
    missing,
    path_of,
    plan_fetch,
    refuse_large,
)
from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.errors import FetchError
from minigpt4.core.worker.server import load_engine

Served = Any


def total(bundle: Bundle) -> int:
    return sum(file.bytes or 0 for file in bundle.files)


def test_progress_counts_all_files_together(url_bundle: Bundle) -> None:
    seen: list[FetchProgress] = []
    plans: list[FetchPlan] = []
    planned = plan_fetch(url_bundle)
    assert (planned.files, planned.bytes, planned.bytes_here) == (2, total(url_bundle), 0)
    ensure(url_bundle, progress=seen.append, begin=plans.append)
    assert {now.total_in_all for now in seen} == {total(url_bundle)}
    counts = [now.done_in_all for now in seen]
    assert counts == sorted(counts) and counts[-1] == total(url_bundle)
    assert plans == [planned]
    assert planned.folder == path_of(url_bundle.files[0], url_bundle).parent
    assert (plan_fetch(url_bundle).files, plan_fetch(url_bundle).bytes) == (0, 0)


def test_what_arrived_before_is_counted_as_here(url_bundle: Bundle, served: Served) -> None:
    served.breaks_after = [2_000_000, 0]
    with pytest.raises(FetchError):
        ensure(url_bundle)
    left = plan_fetch(url_bundle)
    assert (left.files, left.bytes, left.bytes_here) == (1, 1_000_000, 2_000_000)
    seen: list[FetchProgress] = []
    ensure(url_bundle, progress=seen.append)
    assert (seen[0].done_in_all, seen[-1].done_in_all, seen[-1].total_in_all) == (
        2_000_000,
        3_000_000,
        3_000_000,
    )


def test_a_large_download_is_refused_where_nobody_can_be_asked(
    url_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_large(plan_fetch(url_bundle))
    monkeypatch.setattr(fetch, "ASK_BYTES", total(url_bundle) - 1)
    with pytest.raises(FetchError, match=f"`minigpt4 models pull {url_bundle.name}` fetches it"):
        ensure(url_bundle, begin=refuse_large)
    assert missing(url_bundle) == url_bundle.files


def test_the_apps_engine_fetches_nothing_large_by_itself(
    url_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "ASK_BYTES", total(url_bundle) - 1)
    monkeypatch.setattr("minigpt4.core.engine.check_memory", lambda _: None)
    with pytest.raises(FetchError, match="More than 1 GB is not fetched without being asked for"):
        load_engine(EngineOptions(url_bundle, backend="torch"), lambda _: None, lambda _: None)
    assert missing(url_bundle) == url_bundle.files
