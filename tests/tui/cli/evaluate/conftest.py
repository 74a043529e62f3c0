"""The server that fails as it is told to, which the endpoint's own tests have, too."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_path = Path(__file__).parents[3] / "train" / "evaluate" / "judges" / "conftest.py"
_spec = importlib.util.spec_from_file_location("endpoint_server", _path)
assert _spec is not None and _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = _module  # dataclasses look for it
_spec.loader.exec_module(_module)

serve = _module.serve
