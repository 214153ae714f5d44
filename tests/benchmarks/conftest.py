from __future__ import annotations

import os

# Read when benchmarks.gpu is imported, as test files are gathered.
os.environ["IDLEBLOOM_GPU_SCALE"] = "tiny"
