"""Downloads with resume, locks, checksums and several sources per file."""

import os

# The hub's client would print each retry; a final failure is reported as one error of ours.
os.environ.setdefault("HF_HUB_VERBOSITY", "error")
