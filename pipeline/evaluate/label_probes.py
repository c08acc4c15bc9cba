"""What the tile labels, and the slide labels, of one split tell: the probes, fitted on the split `train`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import TypeAdapter

from pipeline.base.figures import NotMeasured
from pipeline.base.items import TRAIN
from pipeline.base.kept import Basis, Slot
from pipeline.base.progress import Advance
from pipeline.evaluate import selection
from pipeline.evaluate.answers.by_model import Answers
from pipeline.evaluate.labels.from_labels import LabelledTiles
from pipeline.evaluate.run import Run
from pipeline.evaluate.seen import Seen
from pipeline.evaluate.selection import Body, Sample
from pipeline.evaluate.trust.cautions import of_classes, of_slides, of_thin_bags, of_tiles, of_weak_teacher
from pipeline.measures.probes.few_shot import few_shot
from pipeline.measures.probes.mil import FIT_VERSION, How, passes, slide_probes, unmeasurable_slides
from pipeline.measures.probes.probes import Labelled, probe, unmeasurable
from pipeline.measures.split_figures import FewShot, Probes, SlideLabels, UniFewShot, UniProbes
from pipeline.measures.uni.probes import uni_probe
from pipeline.measures.uni.simpleshot import uni_few_shot
from pipeline.params.evaluate import EvaluateParams

PROBES, FEW_SHOT = TypeAdapter(Probes), TypeAdapter(dict[int, FewShot])
UNI_PROBES, UNI_FEW_SHOT = TypeAdapter(UniProbes), TypeAdapter(dict[int, UniFewShot])
SLIDE_LABELS = TypeAdapter(SlideLabels)


@dataclass(frozen=True)
class Told:
    """What the tile labels, or the slide labels, of one split tell."""

    probes: UniProbes | Probes | NotMeasured | None = None
    few_shot: Mapping[int, FewShot] = field(default_factory=dict)
    slide_labels: SlideLabels | NotMeasured | None = None
    cautions: Sequence[str] = ()


def learnable(body: Body, train: Sequence[Sample], held: Sequence[Sample]) -> bool:
    """Whether a probe of tile labels can be fitted on the train tiles, and tried on the held-out ones."""
    tiles = [selection.label_of_tiles(selection.labelled(part)) for part in (train, held)]
    return body.tile_labels and not unmeasurable(tiles[0], tiles[1])


def tile_labels(run: Run, body: Body, split: str, tiles: tuple[LabelledTiles, LabelledTiles], advance: Advance) -> Told:
    """The probes of one split, by `evaluate.protocol`; `tiles` are those to fit on and those of the split."""
    if not body.tile_labels:
        return Told()
    (fitted, compared), params = tiles, run.params
    train, held = fitted.known, compared.known
    missing = unmeasurable(train.labels, held.labels)
    if missing:
        return Told(probes=missing)
    basis = {**run.both(), "train": run.tiles(fitted.samples), "held": run.tiles(compared.samples)}
    probes, shots = (_uni if params.protocol == "uni" else _own)(run, train, held, basis, advance)
    cautions = [
        *of_tiles(split, body.train, body.held[split], len(train.labels), params.knn_k),
        *of_classes(f"probes of {split}", train.labels, held.labels),
        *of_weak_teacher(f"linear of {split}", probes.linear.teacher.balanced),
        *of_weak_teacher(f"knn of {split}", probes.knn.teacher.balanced),
    ]
    return Told(probes, shots, cautions=cautions)


def _own(
    run: Run, train: Labelled, held: Labelled, basis: Basis, advance: Advance
) -> tuple[Probes, Mapping[int, FewShot]]:
    """By Histill's own protocol."""
    params = run.params
    probes = run.slot("probes", PROBES, ("knn_k", "bootstrap", "seed"), basis).figures(
        lambda: probe(train, held, params.knn_k, params.bootstrap, params.seed)
    )
    shots = run.slot("few shot", FEW_SHOT, ("episodes", "bootstrap", "seed"), basis).figures(
        lambda: few_shot(train, held, params.episodes, params.bootstrap, params.seed)
    )
    return probes, shots


def _uni(
    run: Run, train: Labelled, held: Labelled, basis: Basis, advance: Advance
) -> tuple[UniProbes, Mapping[int, UniFewShot]]:
    """By UNI's, which fixes neighbours and episodes."""
    params = run.params
    probes = run.slot("probes by UNI", UNI_PROBES, ("bootstrap", "seed"), basis).figures(
        lambda: uni_probe(train, held, params.bootstrap, params.seed, advance)
    )
    shots = run.slot("few shot by UNI", UNI_FEW_SHOT, ("bootstrap", "seed"), basis).figures(
        lambda: uni_few_shot(train, held, params.bootstrap, params.seed, advance)
    )
    return probes, shots


def slide_labels(run: Run, body: Body, advance: Advance) -> dict[str, Told]:
    """The slide labels of every split: heads are fitted once, and only where a figure is not kept."""
    if body.bags is None:
        return {split: Told() for split in body.held}
    train, params, told = body.bags[TRAIN], run.params, dict[str, Told]()
    slots: dict[str, Slot[SlideLabels]] = {}
    for split in body.held:
        missing = unmeasurable_slides(*([s.slide_label for s in part] for part in (body.train, body.bags[split])))
        if missing:
            told[split] = Told(slide_labels=missing)
            continue
        basis: Basis = {
            **run.both(),
            "train": run.tiles(train),
            "held": run.tiles(body.bags[split]),
            "fit_version": FIT_VERSION,
        }
        slots[split] = run.slot("slide labels", SLIDE_LABELS, ("mil_epochs", "bootstrap", "seed"), basis)
    found = {split: kept for split, slot in slots.items() if (kept := slot.find()) is not None}
    asked = [split for split in slots if split not in found]
    # Also where every figure is kept: the manifest names the answers that it stands on, or they would be pruned.
    parts = {TRAIN: train, **{split: body.bags[split] for split in slots}} if slots else {}
    seen = {name: Seen(part, Answers(run, part, advance)) for name, part in parts.items()}
    if asked:
        how = How(epochs=params.mil_epochs, resamples=params.bootstrap, seed=params.seed)
        learnt, *held = (seen[name].bags() for name in (TRAIN, *asked))
        made = slide_probes(learnt, dict(zip(asked, held, strict=True)), how, advance)
        found |= {split: slots[split].keep(figures) for split, figures in made.items()}
    else:
        advance(bag_tiles(body, params) - sum(selection.count(part) for part in parts.values()))
    for split, figures in found.items():
        chosen = body.bags[split]
        labels = ([str(sample.slide_label) for sample in part] for part in (train, chosen))
        cautions = [
            *of_slides(split, body.train, body.held[split], figures.n),
            *of_classes(f"slide labels of {split}", *labels),
            *of_weak_teacher(f"slide labels of {split}", figures.attention.teacher.balanced),
            *of_thin_bags({TRAIN: train, split: chosen}),
        ]
        told[split] = Told(slide_labels=figures, cautions=cautions)
    return told


def bag_tiles(body: Body, params: EvaluateParams) -> int:
    """Tiles that are looked at for slide labels: for the progress bar."""
    if body.bags is None or unmeasurable_slides(
        [sample.slide_label for sample in body.train], [s.slide_label for part in body.bags.values() for s in part]
    ):
        return 0
    looked, train = sum(selection.count(part) for part in body.bags.values()), body.bags[TRAIN]
    return looked + 3 * passes(len(train), params.mil_epochs) * selection.count(train)
