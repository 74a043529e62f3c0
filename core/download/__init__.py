"""Downloads with resume, locks, checksums and several sources per file."""

import os

# The hub's client would print each of its retries; what failed in the end is one sentence of ours.
os.environ.setdefault("HF_HUB_VERBOSITY", "error")
