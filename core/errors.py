"""Exceptions whose messages are written for the person who can fix the problem.

Every message is one or two sentences: what was wrong, with the value, and what to do next.
They are raised at the source of the problem and printed as one line by the command line.
"""


class Minigpt4Error(Exception):
    """Base class of all errors shown to the user; `exit_code` is that of the process."""

    exit_code = 1


class UsageError(Minigpt4Error):
    """The request itself cannot be carried out as worded (an empty question, an unknown name)."""

    exit_code = 2


class BundleError(Minigpt4Error):
    """A bundle's manifest is wrong, or its parts do not fit each other."""


class FetchError(Minigpt4Error):
    """A file could not be fetched completely."""


class ImageError(Minigpt4Error):
    """A picture cannot be opened or used."""


class ContextError(Minigpt4Error):
    """One message alone is longer than the model's context."""


class BackendError(Minigpt4Error):
    """A language-model backend is missing or rejects a request."""


class DataError(Minigpt4Error):
    """Training or evaluation data cannot be read."""
