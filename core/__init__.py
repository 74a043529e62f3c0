"""The inference library: from image files to generated text, without a user interface."""

import os

# At the end of each parallel step, GNU's OpenMP library, which torch and llama.cpp use, waits in a loop for
# its slowest thread. If another program has that thread's core, the others burn theirs meanwhile. So they
# sleep after 1,000 turns instead of 300,000. The library reads this once, when it is loaded; it has copies.
if os.environ.keys().isdisjoint({"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}):
    os.environ["GOMP_SPINCOUNT"] = "1000"
