"""Completions cached on disk, so that a request to an endpoint is paid for once."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from minigpt4.core.storage.atomic import replacing
from minigpt4.core.storage.paths import cache_home
from minigpt4.train.evaluate.judges.client import Completion, Request


class ResponseCache:
    """The completions of one model behind one address; the key is the whole request."""

    def __init__(self, base_url: str, model: str, folder: Path | None = None) -> None:
        """`folder` defaults to one in the user's cache."""
        self._folder = folder or cache_home() / "endpoints"
        self._whose = [base_url, model]

    def get(self, request: Request) -> Completion | None:
        """The completion of a request, if it is known."""
        try:
            return Completion(**json.loads(self._path(request).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None  # a damaged completion is requested again, and replaced

    def put(self, request: Request, completion: Completion) -> None:
        """Keep a completion; a cache that cannot be written is ignored."""
        try:
            with replacing(self._path(request), is_private=True) as draft:
                draft.write_text(json.dumps(asdict(completion), ensure_ascii=False), encoding="utf-8")
        except OSError:
            return

    def _path(self, request: Request) -> Path:
        picture = None if request.picture is None else hashlib.sha256(request.picture).hexdigest()
        content = json.dumps([*self._whose, request.prompt, picture, request.max_tokens])
        digest = hashlib.sha256(content.encode()).hexdigest()
        return self._folder / digest[:2] / f"{digest}.json"
