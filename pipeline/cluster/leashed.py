"""Runs a module, as `python -m` does, for as long as whoever started it is there.

    python -m pipeline.cluster.leashed -m MODULE WORDS

What is started over ssh lives on when its connection breaks, as it does when a stage is killed: then its standard input
is closed, and the process ends.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading


def _end_with_input() -> None:
    while os.read(0, 1 << 10):
        pass
    # Not as an exception, which the module's event loop would wait for. A worker misses its nanny, and ends too.
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_input, daemon=True).start()
    _, module, *words = sys.argv[1:]
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
