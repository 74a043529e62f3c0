"""The app's screens, and the table of those that are imported only when somebody calls for them."""

from __future__ import annotations

import importlib
from typing import Any

PLUGS = {
    "search": ("minigpt4.tui.screens.search", "SearchScreen"),
    "models": ("minigpt4.tui.screens.models", "ModelsScreen"),
    "settings": ("minigpt4.tui.screens.settings", "SettingsScreen"),
    "themes": ("minigpt4.tui.screens.themes", "ThemesScreen"),
    "help": ("minigpt4.tui.screens.help", "HelpScreen"),
    "export": ("minigpt4.tui.screens.export", "ExportScreen"),
    "pick_picture": ("minigpt4.tui.screens.picker", "PickerScreen"),
    "zoom_picture": ("minigpt4.tui.screens.zoom", "ZoomScreen"),
    "sidebar": ("minigpt4.tui.widgets.sidebar", "Sidebar"),
    "thumbnail": ("minigpt4.tui.widgets.picture", "Thumbnail"),
    "chips": ("minigpt4.tui.widgets.chips", "ChipRow"),
    "palette": ("minigpt4.tui.screens.palette", "Commands"),
}
"""What is called for, by the name of its action: the module and the class."""


def plug(name: str) -> Any:
    """The class of that name, imported now."""
    module, attribute = PLUGS[name]
    return getattr(importlib.import_module(module), attribute)
