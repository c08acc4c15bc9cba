"""The verbs: one short file a stage. Stages never import each other."""

import os

from pipeline.base.limits import bound_threads

# A torch thread that waits spins, by default so long that two jobs on one machine are slower than one after the other.
# torch's OpenMP reads this when it is loaded, so it is said ahead of all imports (why 1000: docs/benchmarks.md).
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
bound_threads()
