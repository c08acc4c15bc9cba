"""The first screen of the report: how much smaller, how much faster, how much is kept, and what nobody measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.benchmark.manifest import BenchmarkManifest
from pipeline.evaluate.manifest import EvaluateManifest

NOT_MEASURED = ("reading slides and decoding tiles (the speed is of the models alone)", "any clinical task")
"""What no run of this pipeline measures."""


@dataclass(frozen=True)
class Figure:
    """One large figure: the number, what it counts, and a line that says how it was had (or why it was not)."""

    number: str
    noun: str
    detail: str
    measured: bool = True


def figures(evaluate: EvaluateManifest, benchmark: BenchmarkManifest) -> list[Figure]:
    """The four figures of the verdict, in the order in which a reader asks for them."""
    return [smaller(benchmark), faster(benchmark), kept(evaluate), likeness(evaluate)]


def smaller(benchmark: BenchmarkManifest) -> Figure:
    """Parameters, teacher over student."""
    teacher, student = (benchmark.summary[name]["params"] for name in ("teacher", "student"))
    gmacs = [digits(benchmark.summary[name]["gmacs"]) for name in ("teacher", "student")]
    detail = (
        f"{quantity(teacher)} parameters in the teacher, {quantity(student)} in the student; "
        f"{gmacs[0]} and {gmacs[1]} GMAC a tile"
    )
    return Figure(times(teacher / student), "smaller" if teacher >= student else "larger", detail)


def faster(benchmark: BenchmarkManifest) -> Figure:
    """Best throughput, student over teacher."""
    ratio = benchmark.summary["speedup"]
    slow, fast = (digits(benchmark.summary[name]["tiles_per_s"]) for name in ("teacher", "student"))
    where = f"{benchmark.summary['precision']} on {measured_on(benchmark.summary)}"
    first = [benchmark.summary[name]["rows"][0] for name in ("teacher", "student")]
    alone, batch = [digits(row["latency_ms_p50"]) for row in first], first[1]["batch"]
    # Which is the faster may turn with the batch size, and who embeds tile by tile has to know.
    turned = (first[0]["latency_ms_p50"] < first[1]["latency_ms_p50"]) == (ratio >= 1)
    there = f" (the student is {'slower' if ratio >= 1 else 'faster'} there)" if turned else ""
    sure = times_range(ratio, benchmark.summary["speedup_interval"])
    detail = (
        f"{sure}; {slow} tiles a second with the teacher, {fast} with the student, each at its best batch in one run; "
        f"{alone[0]} and {alone[1]} ms for a batch of {batch}{there}; {where}"
    )
    return Figure(times(ratio), "faster" if ratio >= 1 else "slower", detail)


def measured_on(speed: Mapping[str, Any]) -> str:
    """The processor that a benchmark's leading figures are of."""
    return str(speed["machine"]["gpu" if speed["device"] == "cuda" else "cpu"])


def kept(evaluate: EvaluateManifest) -> Figure:
    """Retention of the linear probe on the primary split."""
    noun, split = "of the teacher’s linear probe kept", evaluate.summary["primary"]
    probes = (evaluate.summary["probes"] or {}).get(split)
    if not probes or not probes["linear"]["retention"]:
        return Figure("–", noun, f"not measured: {reason(evaluate, 'probes')}", measured=False)
    retention, linear = probes["linear"]["retention"], probes["linear"]
    answers = {**linear, "majority": probes["majority"]}
    names = {"teacher": "teacher", "student": "student", "untrained": "untrained student", "majority": "majority class"}
    scores = ", ".join(
        f"{text} {answers[name]['balanced_accuracy']:.2f}" for name, text in names.items() if name in answers
    )
    detail = (
        f"{percent_range(retention['interval'])} with 95 % confidence, on {probes['n']:,} held-out tiles; balanced "
        f"accuracy: {scores}"
    )
    return Figure(percent(retention["value"]), noun, detail)


def likeness(evaluate: EvaluateManifest) -> Figure:
    """Standardised cosine on the primary split."""
    noun, split = "standardised cosine to the teacher", evaluate.summary["primary"]
    found = (evaluate.summary["fidelity"] or {}).get(split)
    if not found:
        return Figure("–", noun, f"not measured: {reason(evaluate, 'fidelity')}", measured=False)
    low, high = found["cosine_interval"]
    detail = f"{low:.2f} to {high:.2f} with 95 % confidence, on {found['n']:,} held-out tiles; a constant scores 0"
    return Figure(f"{found['cosine']:.2f}", noun, detail)


def cautions(evaluate: EvaluateManifest, benchmark: BenchmarkManifest) -> list[str]:
    """What a reader must know before trusting a figure: the evaluation's warnings, and a machine that was busy."""
    machine, warnings = benchmark.summary["machine"], list(evaluate.summary["warnings"])
    if machine["load"] is not None and machine["load"] > machine["cores"] / 2:
        what = f"{machine['load']:g} processes wanted the machine’s {machine['cores']} cores"
        warnings.append(f"speed: {what}, so that ratios say more than milliseconds")
    return warnings


def not_measured(evaluate: EvaluateManifest, benchmark: BenchmarkManifest) -> list[str]:
    """Everything a reader might take for granted and must not."""
    gaps = [f"{what} ({why})" for what, why in sorted(evaluate.summary["why"].items())]
    if not evaluate.summary["sets"]:
        gaps.append("public data sets (evaluate.datasets names none)")
    speed, others = benchmark.summary, benchmark.summary["others"]
    measured = {speed["device"], *(cell["device"] for cell in others if cell["rows"])}
    gaps += [f"speed on a {name}" for name, device in (("GPU", "cuda"), ("CPU", "cpu")) if device not in measured]
    if not any(cell["rows"] for cell in others if cell["engine"] != speed["engine"]):
        gaps.append(f"engines other than {speed['engine']} PyTorch")
    gaps += [
        f"{cell['model']}, {cell['engine']} {cell['precision']} on {cell['device']} ({cell['why']})"
        for cell in others
        if not cell["rows"]
    ]
    if any(speed[name]["joules_per_tile"] is None for name in ("teacher", "student")):
        short = "; over benchmark.seconds below 10 a GPU’s tells nothing" if speed["device"] == "cuda" else ""
        gaps.append(f"energy (no counter that can be read{short})")
    return [*gaps, *NOT_MEASURED]


def reason(evaluate: EvaluateManifest, what: str) -> str:
    """Why the primary split lacks a figure."""
    why: dict[str, Any] = evaluate.summary["why"]
    return str(why.get(what) or why.get(f"{what}, {evaluate.summary['primary']}") or "nothing to measure it on")


def times(ratio: float) -> str:
    """A ratio in whichever direction it is above one, as 4.1×."""
    return f"{digits(max(ratio, 1 / ratio), 2 if max(ratio, 1 / ratio) < 100 else 3)}×"


def times_range(ratio: float, ends: Sequence[float] | None) -> str:
    """The interval of a ratio, in the direction in which `times` shows the ratio itself."""
    if ends is None:
        return "too few rounds for an interval"
    low, high = ends if ratio >= 1 else (1 / ends[1], 1 / ends[0])
    return f"{digits(low)} to {digits(high)} times with 95 % confidence"


def digits(value: float, significant: int = 3) -> str:
    """A number to so many significant digits, never in powers of ten, with thousands apart."""
    rounded = float(f"{value:.{significant}g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 10 ** (significant - 1) else f"{rounded:.{significant}g}"


def quantity(value: float) -> str:
    """A large count for people: 303 M, 4.7 M, 12 k."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{digits(value / size)} {letter}"
    return digits(value)


def percent(share: float) -> str:
    """A share of one as whole percents."""
    return f"{100 * share:.0f} %"


def percent_range(ends: list[float]) -> str:
    """An interval of shares as whole percents."""
    return f"{100 * ends[0]:.0f} to {100 * ends[1]:.0f} %"
