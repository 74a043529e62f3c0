"""The name of a bundle that is about to be made."""

from __future__ import annotations

import re

from minigpt4.core.bundles.bundle import SHIPPED_BUNDLES, own_manifest
from minigpt4.core.download.fetch import bundles_folder
from minigpt4.core.errors import UsageError

LONGEST_NAME = 64


def check_name(name: str, *, force: bool) -> None:
    """Raise UsageError for an invalid or taken name; with `force`, a user bundle's name may be reused."""
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) is None or len(name) > LONGEST_NAME:
        raise UsageError(
            f"'{name}' cannot be a bundle's name; use letters, digits and . _ -, a letter or digit first, "
            f"at most {LONGEST_NAME}."
        )
    if (SHIPPED_BUNDLES / f"{name}.toml").exists():
        raise UsageError(f"'{name}' is a bundle that comes with minigpt4; choose another name.")
    taken = next((path for path in (own_manifest(name), bundles_folder() / name) if path.exists()), None)
    if taken is not None and not force:
        raise UsageError(
            f"There is a bundle '{name}' already ({taken}); choose another name, or give --force to "
            "replace it."
        )
