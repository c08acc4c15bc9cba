"""Room params: params.yaml as frozen typed models, one file a section; defaults live there and nowhere else.

Imports base; every room may enter, each by the files of the sections that it takes, so that a changed default reruns
its own stage and those after it. `load.py` reads, `whole.py` checks the whole file. Sections named after stages are
what DVC watches; `store` and `cluster` say where and with what to compute, never what.
"""

STAGES = ("slides", "tiles", "tokens", "student", "evaluate", "benchmark", "report")
SITE_SECTIONS = ("store", "cluster")
