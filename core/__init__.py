"""The inference library: from image files to generated text, without a user interface."""

import os

# At the end of each parallel step, an OpenMP library waits in a loop for its slowest thread. If another
# program has that thread's core, the others burn theirs meanwhile. So they sleep early: in GNU's library,
# which the Linux builds of torch and llama.cpp share, after 1,000 spins instead of 300,000; in LLVM's and
# Intel's after 1 ms, where llama.cpp would set 200. A library reads this once, when it is loaded.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    if "KMP_LIBRARY" not in os.environ:
        os.environ.setdefault("KMP_BLOCKTIME", "1")
