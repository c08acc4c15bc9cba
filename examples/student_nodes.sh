#!/bin/bash
# One student over several machines without a batch system: the same line on each of them, from the project's root, the
# first machine's name in it and a port that is free there. PROCESSES is one a GPU.
#   examples/student_nodes.sh first-machine:29500 MACHINES PROCESSES
# Run again on all of them, it goes on at its last checkpoint (student.checkpoint_minutes).
set -eu
. .venv/bin/activate
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# Whoever lacks a rank or a machine ends: nothing is started again by itself, into a group that others have left.
exec torchrun --nnodes "$2" --nproc-per-node "$3" --max-restarts 0 \
  --rdzv-id student --rdzv-backend c10d --rdzv-endpoint "$1" -m stages.student
