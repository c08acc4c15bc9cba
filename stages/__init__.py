"""The verbs: one short file a stage. Stages never import each other."""

import os

# Threads that spin while they wait make two jobs on one machine several times slower than one after the other.
# torch reads it when it is imported, so it is said here, before any stage's own imports.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
