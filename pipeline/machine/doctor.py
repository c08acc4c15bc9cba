"""`histill doctor`: all that a run stands on, each looked at by using it."""

from __future__ import annotations

from pathlib import Path

from pipeline.base.errors import HistillError
from pipeline.base.files import dvc_root
from pipeline.base.store import Store
from pipeline.machine.finding import Finding, Level, stops
from pipeline.machine.hardware import hardware
from pipeline.machine.project import slide_table, tools
from pipeline.machine.software import software
from pipeline.machine.storing import storing
from pipeline.machine.weights import weights
from pipeline.params.load import load_params
from pipeline.params.whole import WholeParams


def examine(params_file: Path = Path("params.yaml")) -> list[Finding]:
    """Every line, in order; where params.yaml cannot be read, what its defaults would want."""
    found, params = [], WholeParams()
    try:
        params = load_params(WholeParams, params_file)
        found.append(Finding(what="params", found=str(params_file)))
    except HistillError as error:
        mend = error.fix or "run in a checkout; `histill embed` needs none"
        found.append(stops("params", f"{error.where}: {error.what}", "there is no pipeline to run", mend))
    found += software(params.tokens)
    found += hardware([one.teacher for one in params.tokens.each])
    found += tools(dvc_root().absolute())
    found.append(slide_table(params.slides))
    try:
        found += storing(Store.find(params.store.root, params.store.base, trust=params.store.trust))
    except HistillError as error:
        found.append(stops("store.base", f"{error.where}: {error.what}", "no stage begins", error.fix))
    return found + weights(params.tokens)


def can_run(found: list[Finding]) -> bool:
    """Whether the configured pipeline can."""
    return not any(finding.level is Level.STOPS for finding in found)
