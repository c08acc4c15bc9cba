"""Every figure of evaluate.json as rows for tables: teacher, student, both floors, and what is kept.

A cell is {value, low, high} or None. Pure functions of the manifest's summary; no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.evaluate.tables import MODELS, PROBES

Cell = dict[str, Any] | None
ACCURACY_COLUMNS = (*MODELS, "majority")
"""What an accuracy stands beside: both models, the network with random weights, and the most frequent class."""


def detail_rows(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """{section, where, what, and a cell each for `ACCURACY_COLUMNS` and kept} of every figure beside the probes' own.

    Figures are of slides, data sets and robustness; `section` is where the report shows them: fidelity, downstream or
    robustness.
    """
    rows: list[dict[str, Any]] = []
    for split, found in (summary["fidelity"] or {}).items():
        rows += [{"section": "fidelity", "where": split, **row} for row in _fidelity(found)]
    for split, shots in (summary["few_shot"] or {}).items():
        rows += [{"section": "downstream", "where": split, **row} for row in _few_shot(shots)]
    for split, found in (summary["slide_labels"] or {}).items():
        rows += [{"section": "downstream", "where": split, **row} for row in _slide_labels(found)]
    for name, splits in summary["sets"].items():
        for split, found in splits.items():
            where = f"{name}, {split}"
            rows.append({"section": "fidelity", "where": where, **_set_cosine(found)})
            rows += [{"section": "downstream", "where": where, **row} for row in _of_set(found)]
    robust = summary["robustness"] or {"changes": {}}
    for change, found in robust["changes"].items():
        cells = {model: _cell(found[model], "agreement", "interval") for model in ("teacher", "student")}
        row = _row(f"agreement, {change}", difference=_cell(found["difference"], "value", "interval"), **cells)
        rows.append({"section": "robustness", "where": f"{robust['n']} tiles", **row})
    return rows


def _fidelity(found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield _row("cosine", student=_cell(found, "cosine", "cosine_interval"))
    yield _row("cosine, 5th percentile", student=_cell(found, "cosine_p5", "cosine_p5_interval"))
    patch = found["patch"]
    if patch:
        yield _row("patch cosine", student=_cell(patch, "cosine", "cosine_interval"))
        yield _row("patch cosine, 5th percentile", student=_cell(patch, "cosine_p5", "cosine_p5_interval"))
    shape = found["structure"] or {}
    for key, name in (("cka", "linear CKA"), ("neighbours", "mutual 10 neighbours"), ("rankme", "RankMe")):
        if key in shape:
            yield _row(name, **{model: _cell(shape[key].get(model), "value", "interval") for model in MODELS})


def _few_shot(shots: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for n in sorted(shots, key=int):
        yield _accuracy(f"few shots, {n} a class", shots[n], shots[n].get("majority"))


def _slide_labels(found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield _accuracy("slide labels, attention", found, found["majority"])
    # Experiments evaluated before there was this figure are compared too.
    if "head_transfer" in found:
        name = f"slide labels, attention, {PROBES['head_transfer']}"
        yield _accuracy(name, found["head_transfer"], found["majority"])


def _set_cosine(found: Mapping[str, Any]) -> dict[str, Any]:
    return _row("cosine", student=_cell(found["fidelity"], "cosine", "cosine_interval"))


def _of_set(found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for kind, name in PROBES.items():
        if found.get("probes"):
            yield _accuracy(name, found["probes"][kind], found["probes"]["majority"])
    yield from _few_shot(found.get("few_shot") or {})
    for kind in ("linear", "head_transfer"):
        if found.get("dense"):
            row = found["dense"][kind]
            for key, name in (("miou", "mIoU"), ("dice", "Dice")):
                answers = {**row, "majority": found["dense"]["majority"]}
                cells = {name: _cell(answers.get(name), key, f"{key}_interval") for name in ACCURACY_COLUMNS}
                kept = _cell(row["retention"], "value", "interval") if key == "miou" else None
                yield _row(f"{name}, dense {PROBES[kind]}", kept=kept, **cells)


def _accuracy(what: str, found: Mapping[str, Any], majority: Mapping[str, Any] | None) -> dict[str, Any]:
    answers = {**found, "majority": majority}
    cells = {name: _cell(answers.get(name), "balanced_accuracy", "interval") for name in ACCURACY_COLUMNS}
    return _row(what, kept=_cell(found["retention"], "value", "interval"), **cells)


def _row(what: str, **cells: Cell) -> dict[str, Any]:
    return {"what": what, **dict.fromkeys((*ACCURACY_COLUMNS, "kept")), **cells}


def _cell(found: Mapping[str, Any] | None, key: str, interval: str) -> Cell:
    return None if found is None else {"value": found[key], "low": found[interval][0], "high": found[interval][1]}
