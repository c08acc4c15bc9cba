"""The first screen of the report: how much smaller, how much faster, how much is kept, and what nobody measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.base.figures import Figure, Interval, NotMeasured
from pipeline.benchmark.results import MODELS, Benchmark
from pipeline.evaluate.summary import EvaluateSummary
from pipeline.measures.split_figures import PROTOCOLS, Probes

NOT_MEASURED = ("any clinical task",)
"""What no run of this pipeline measures."""


@dataclass(frozen=True)
class Large:
    """One large figure: the number, what it counts, and a line that says how it was had (or why it was not)."""

    number: str
    noun: str
    detail: str
    measured: bool = True


def figures(summary: EvaluateSummary, benchmark: Benchmark) -> list[Large]:
    """The four figures of the verdict, in the order in which a reader asks for them."""
    return [smaller(benchmark), faster(benchmark), kept(summary), likeness(summary)]


def smaller(benchmark: Benchmark) -> Large:
    """Parameters, teacher over student."""
    teacher, student = (benchmark.models[name].params for name in MODELS)
    gmacs = [digits(benchmark.models[name].gmacs) for name in MODELS]
    detail = (
        f"{quantity(teacher)} parameters in the teacher, {quantity(student)} in the student; "
        f"{gmacs[0]} and {gmacs[1]} GMAC a tile"
    )
    return Large(times(teacher / student), "smaller" if teacher >= student else "larger", detail)


def faster(benchmark: Benchmark) -> Large:
    """Best throughput, student over teacher."""
    ratio, leads = benchmark.speedup.value, [benchmark.lead(name) for name in MODELS]
    slow, fast = (digits(lead.best.tiles_per_s) for lead in leads)
    where = f"{leads[1].precision} on {measured_on(benchmark)}"
    first = [lead.rows[0] for lead in leads]
    alone, batch = [digits(row.latency_ms_p50) for row in first], first[1].batch
    # Which is the faster may turn with the batch size, and who embeds tile by tile has to know.
    turned = (first[0].latency_ms_p50 < first[1].latency_ms_p50) == (ratio >= 1)
    there = f" (the student is {'slower' if ratio >= 1 else 'faster'} there)" if turned else ""
    sure = times_range(benchmark.speedup)
    detail = (
        f"{sure}; {slow} tiles a second with the teacher, {fast} with the student, each at its best batch in one run; "
        f"{alone[0]} and {alone[1]} ms for a batch of {batch}{there}; {where}{whole(benchmark)}"
    )
    return Large(times(ratio), "faster" if ratio >= 1 else "slower", detail)


def whole(benchmark: Benchmark) -> str:
    """Slides an hour with reading, teacher's and student's, as the end of a sentence; nothing where not measured."""
    if isinstance(benchmark.whole, NotMeasured):
        return ""
    slow, fast = (digits(benchmark.whole[name].an_hour.value, 2) for name in MODELS)
    return f"; reading included, {slow} and {fast} slides of {benchmark.slide_tiles:,} tiles an hour"


def measured_on(benchmark: Benchmark) -> str:
    """The processor that a benchmark's leading figures are of."""
    machine = benchmark.machine
    return str(machine.gpu if benchmark.lead("student").device == "cuda" else machine.cpu)


def kept(summary: EvaluateSummary) -> Large:
    """How far the student comes from an untrained network to its teacher, and what both keep; by linear probe."""
    noun, found = "of the way from an untrained network to the teacher, by linear probe", summary.lead
    probes = found.probes if found else None
    if not isinstance(probes, Probes):
        return Large("–", noun, f"not measured: {_why(summary, probes)}", measured=False)
    linear, names = probes.linear, {"untrained": "untrained student", "majority": "majority class"}
    if isinstance(linear.way, NotMeasured):
        return Large("–", noun, f"not measured: {linear.way.why}", measured=False)
    if isinstance(linear.retention, NotMeasured):
        return Large("–", noun, f"not measured: {linear.retention.why}", measured=False)
    scores = ", ".join(f"{names.get(name, name)} {score.balanced.value:.2f}" for name, score in linear.scores().items())
    sure, untrained = sureness(linear.way, percent_range), linear.retention.floors["untrained"]
    of_teacher = f"{percent(linear.retention.value)} of the teacher’s figure, of which an untrained network has"
    where = f"on {probes.n:,} held-out tiles by {PROTOCOLS[probes.protocol]}"
    detail = f"{sure}, {where}: {of_teacher} {percent(untrained)}; balanced accuracy: {scores}"
    return Large(percent(linear.way.value), noun, detail)


def likeness(summary: EvaluateSummary) -> Large:
    """Standardised cosine on the primary split."""
    noun, found = "standardised cosine to the teacher", summary.lead
    if found is None:
        return Large("–", noun, f"not measured: {_why(summary, None)}", measured=False)
    cosine = found.fidelity.cosine
    sure = sureness(cosine, lambda span: f"{span.low:.2f} to {span.high:.2f}")
    return Large(f"{cosine.value:.2f}", noun, f"{sure}, on {cosine.n:,} held-out tiles; a constant scores 0")


def sureness(figure: Figure, shown: Callable[[Interval], str]) -> str:
    """How sure a figure is, in words: its interval as `shown`, or why it has none."""
    if isinstance(figure.interval, NotMeasured):
        return figure.interval.why
    return f"{shown(figure.interval)} with 95 % confidence" if figure.interval else "without an interval"


def _why(summary: EvaluateSummary, missing: NotMeasured | None) -> str:
    """Why the primary split lacks a figure."""
    reason = missing or summary.nothing_held_out
    return reason.why if reason else "nothing to measure it on"


def cautions(summary: EvaluateSummary, benchmark: Benchmark) -> list[str]:
    """What a reader must know before trusting a figure: the evaluation's warnings, and a machine that was busy."""
    machine, warnings = benchmark.machine, summary.every_caution()
    if machine.load is not None and machine.load > machine.cores / 2:
        what = f"{machine.load:g} processes wanted the machine’s {machine.cores} cores"
        warnings.append(f"speed: {what}, so that ratios say more than milliseconds")
    return warnings


def not_measured(summary: EvaluateSummary, benchmark: Benchmark) -> list[str]:
    """Everything a reader might take for granted and must not."""
    gaps = [f"{gap.title} ({gap.why})" for gap in summary.gaps()]
    if not summary.sets:
        gaps.append("public data sets (evaluate.datasets names none)")
    lead, others = benchmark.lead("student"), benchmark.others
    measured = {lead.device, *(cell.device for cell in others if cell.rows)}
    gaps += [f"speed on a {name}" for name, device in (("GPU", "cuda"), ("CPU", "cpu")) if device not in measured]
    if not any(cell.rows for cell in others if cell.engine != lead.engine):
        gaps.append(f"engines other than {lead.engine} PyTorch")
    gaps += [f"{cell.name} ({cell.why})" for cell in others if not cell.rows]
    if not benchmark.models["teacher"].weights:
        gaps.append("the teacher with its own weights, which are not here: its speed is its architecture’s")
    if isinstance(benchmark.whole, NotMeasured):
        gaps.append(f"reading slides and decoding tiles ({benchmark.whole.why})")
    if any(benchmark.lead(name).best.joules_per_tile is None for name in MODELS):
        short = "; over benchmark.seconds below 8 a GPU’s tells nothing" if lead.device == "cuda" else ""
        gaps.append(f"energy (no counter that can be read{short})")
    return [*gaps, *NOT_MEASURED]


def times(ratio: float) -> str:
    """A ratio in whichever direction it is above one, as 4.1×."""
    return f"{digits(max(ratio, 1 / ratio), 2 if max(ratio, 1 / ratio) < 100 else 3)}×"


def times_range(ratio: Figure) -> str:
    """The interval of a ratio, in the direction in which `times` shows the ratio itself."""
    ends = ratio.span
    if ends is None:
        return "too few rounds for an interval"
    low, high = (ends.low, ends.high) if ratio.value >= 1 else (1 / ends.high, 1 / ends.low)
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


def percent_range(span: Interval) -> str:
    """An interval of shares as whole percents."""
    return f"{100 * span.low:.0f} to {100 * span.high:.0f} %"
