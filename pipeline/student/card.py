"""The model card: what the student is, what it learnt from, and what its licence inherits, filled in from the run."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.base.files import as_file_name
from pipeline.base.items import StudentFacts
from pipeline.params.student import StudentParams
from pipeline.teachers.licences import licence_of, strictest, unknown_licences

UNI_LICENCE = (
    "The teacher is UNI or of its family. UNI's licence (CC-BY-NC-ND 4.0 with the terms of its model page) forbids "
    "commercial use of derivatives, which it says include models trained on its outputs and data sets made from them: "
    "this student and the cached tokens are such derivatives. Academic, non-commercial use alone, with attribution."
)
OTHER_LICENCE = (
    "A student inherits what the teacher's licence says of models trained on its outputs. Check the licence of "
    "`{teacher}` before this model is used or passed on."
)
DEMO_LICENCE = (
    "The teacher is Histill's demo teacher, trained on synthetic slides: a demonstration, of no clinical use."
)

STANDARDISED = {"channel": "channel", "phi-s": "PHI-S"}
BATCH_NORM = {
    True: "measured before training and frozen",
    False: "by the batch, measured again with the final weights",
}

KEEP_THE_HEAD = "Never pass num_classes=0: its last layer is what answers in the teacher's space."
"""timm cannot keep a layer that it was asked to leave out; the export has no name for it, so that timm refuses."""
FIGURES = "## Figures"
NOT_YET = f"""\
{FIGURES}

Measured after this folder was written: reports/model_card.md is this card with them, reports/report.html shows them.
"""

TEMPLATE = """\
---
library_name: timm
pipeline_tag: image-feature-extraction
license: other
tags: [histopathology, distillation]
---
# {model}, distilled from {distilled}

A {model} ({parameters:.2f} M parameters) that answers in the {width}-dimensional embedding space of `{teacher}`: heads
trained on the teacher's features can be applied to it as they are. Made by Histill from cached answers alone.

```python
import timm
model = timm.create_model("local-dir:models/student", pretrained=True).eval()
config = timm.data.resolve_model_data_config(model)
transform = timm.data.create_transform(**config, is_training=False)
embedding = model(transform(tile).unsqueeze(0))  # tile: PIL image; embedding: (1, {width})
```

**{keep_the_head}** timm refuses it ("Unexpected key(s) in state_dict"), and so do tools that
ask timm for "features" that way: give them this model as it is.

With timm before 1.0.16, which knows no `local-dir` (tried with 0.9.8, 0.9.16 and 1.0.15; `crop_pct` is not to be left
out: timm's own 0.95 looks at another field):

```python
import json, timm
config = json.load(open("models/student/config.json"))
model = timm.create_model(
    config["architecture"], num_classes=config["num_classes"],
    checkpoint_path="models/student/model.safetensors", **config["model_args"],
).eval()
cfg = config["pretrained_cfg"]
transform = timm.data.create_transform(
    tuple(cfg["input_size"]), mean=cfg["mean"], std=cfg["std"], interpolation="bicubic", crop_pct=1.0
)
```

`model.onnx` (opset 18) is the same model for other runtimes: input `image` (batch, 3, {input_px}, {input_px}),
float32, normalised with the mean and std of `config.json`; output `embedding` (batch, {width}).

| | |
| --- | --- |
| tiles | square, {tile_px} x {tile_px} px, slides cut at {mpp}; of another image the middle square |
| teacher | `{teacher}`, weights {digest}, input {teacher_px} px, {grid} patch tokens of {width} |{also}
| teachers' answers | {answers} |
| student | `{model}`, input {input_px} px, {start} |
| trained on | {train_tiles} tiles of {train_slides} slides (split `train` alone), {views} cached view(s) of each\
{share} |
| objectives | {objectives} (embeddings by {cls_kind}), on targets standardised by {standardise} |
| adapter | {adapter} |
| recipe | AdamW, learning rate {lr:g}, weight decay {weight_decay:g}, batch {batch_size}, \
{epochs} epochs = {steps} steps, seed {seed}, {precision}{inputs}; warm-up {warmup_fraction:g} of the steps, then \
cosine; gradient clipped at {clip_norm:g}; {average}; batch norm {batch_norm} |
| training loss at the end | {losses} |

{dense}
{figures}
## Intended use

Research on features of H&E tiles where the teacher is too slow. Compare it with its teacher on your own task first: the
project's report states fidelity and retention on held-out slides, and neither says anything about tissue, stain or
scanners that were not among the training slides. Not a medical device.

## Licence

{licence}
"""

DENSE = """\
## Dense features

`adapter/dense.onnx` answers normalised images (batch, 3, H, W) with `embedding` and `patch`: the teacher's {grid} grid
of patch tokens, in the teacher's space. In PyTorch, and with Histill alone, `adapter/adapter.safetensors` (arguments in
`adapter.json` beside it) makes them of the student's feature maps: `histill embed SLIDES --dense --out DIR`.
"""

NESTED = """\
## Smaller embeddings

{sizes} numbers in place of {width}: `nested/nested.safetensors` makes a further vector of the features before the last
layer (the output `nested` of `model.onnx`), whose first k numbers are an embedding of their own for each of these k.
`histill embed … --width {size}` writes it.

```python
import torch.nn.functional as F
from safetensors.torch import load_file
layers = load_file("models/student/nested/nested.safetensors")
feature = model.forward_head(model.forward_features(transform(tile).unsqueeze(0)), pre_logits=True)
small = F.linear(feature, layers["project.weight"], layers["project.bias"])[:, :{size}]
back = F.linear(small, layers["heads.{size}.weight"], layers["heads.{size}.bias"])  # (1, {width}), the teacher's space
```
"""


def licence_note(teacher: str) -> str:
    """What the student's licence inherits from the teacher of that name."""
    name = teacher.lower()
    if "mahmoodlab" in name or name.split("/")[-1].split("-")[0] in ("uni", "uni2"):
        return UNI_LICENCE
    return DEMO_LICENCE if name == "demo" else OTHER_LICENCE.format(teacher=teacher)


def licence_notes(teachers: Sequence[str]) -> str:
    """What a student inherits from all its teachers: which licence is the strictest, then each one's note."""
    if len(teachers) == 1:
        return licence_note(teachers[0])
    rules, unknown = strictest(teachers), unknown_licences(teachers)
    told = ["The licences of all its teachers hold at once: what one forbids is forbidden."]
    if rules is not None:
        told[0] += f" The strictest of those known here is that of `{rules}` ({licence_of(rules)})."
    if unknown:
        told[0] += f" Not known here: {', '.join(f'`{name}`' for name in unknown)}."
    return "\n\n".join([*told, *dict.fromkeys(licence_note(name) for name in teachers)])


def _also(facts: StudentFacts) -> str:
    """Rows of the table, one a further teacher; empty without."""
    rows = ""
    for one in facts.also:
        grid = " x ".join(str(side) for side in one.grid)
        learnt = f"{grid} patch tokens of {one.width}" if one.adapter else f"embeddings of {one.width} alone"
        rows += (
            f"\n| further teacher | `{one.teacher.name}`, weights {one.teacher.weights_digest[:16]}, input "
            f"{one.teacher.input_px} px, {learnt}, weight {one.weight:.3g} in the loss; answered in its space by "
            f"`spaces/{as_file_name(one.teacher.name)}`, a folder as this one, and by `model.onnx` |"
        )
    return rows


def _answers(facts: StudentFacts) -> str:
    """Where each teacher's answers are from."""
    told = []
    for name, imported in zip(facts.teachers, facts.origins, strict=True):
        if imported is None:
            told.append(f"`{name}`: computed by Histill")
            continue
        verified = f"not verified ({imported.why})"
        if imported.checked_tiles and imported.mean_cosine is not None:
            verified = (
                f"verified on {imported.checked_tiles} tiles, standardised cosine with the teacher's own answers "
                f"{imported.mean_cosine:.3f}"
            )
        encoder = imported.encoder or "not named"
        told.append(f"`{name}`: imported from {imported.tool}, encoder {encoder}, {imported.dtype}, {verified}")
    return "; ".join(told)


def _inputs(params: StudentParams) -> str:
    """What was done to the tiles before they were shown."""
    told = []
    if params.augment.changes:
        amounts = params.augment.model_dump(exclude_defaults=True).items()
        told.append("tiles changed, targets not (" + ", ".join(f"{name} {value:g}" for name, value in amounts) + ")")
    if params.mix.kind != "none":
        told.append(f"{params.mix.kind} of {params.mix.share:.0%} of the tiles, alpha {params.mix.alpha:g}")
    return "".join(f", {each}" for each in told)


def _nested(sizes: tuple[int, ...], width: int) -> str:
    """The section that says how to have smaller embeddings; empty where there are none."""
    if not sizes:
        return ""
    listed = " or ".join(map(str, sizes))
    return "\n" + NESTED.format(sizes=listed, size=sizes[len(sizes) // 2], width=width)


def model_card(facts: StudentFacts, figures: str = NOT_YET) -> str:
    """README.md of the exported folder, from a run's run.json; the same run gives the same text.

    `figures` is the section that tells what was measured, Markdown.
    """
    teacher, params = facts.teacher, StudentParams.model_validate(facts.student)
    grid = " x ".join(str(side) for side in facts.grid)
    weights, share = params.objective, params.train_fraction
    return TEMPLATE.format(
        **facts.model_dump(include={"model", "width", "input_px", "train_tiles", "train_slides", "views"}),
        **params.model_dump(include={"lr", "weight_decay", "epochs", "seed", "warmup_fraction", "clip_norm"}),
        tile_px=facts.tile_px,
        mpp=f"{facts.target_mpp:g} um a pixel" if facts.target_mpp else "an unstated scale",
        share="" if share == 1 else f", {share:g} of each slide's",
        cls_kind=weights.cls_kind,
        standardise=STANDARDISED[params.standardise],
        adapter=f"{params.adapter}, for the patch tokens" if facts.adapter else "none: no patch tokens",
        average=f"moving average of the weights, decay {params.ema_decay:g}" if params.ema_decay else "last weights",
        batch_norm=BATCH_NORM[params.freeze_batch_norm],
        start=f"started from {facts.start.origin}" if facts.start else "from scratch",
        teacher=teacher.name,
        digest=teacher.weights_digest[:16],
        teacher_px=teacher.input_px,
        grid=grid,
        parameters=facts.parameters / 1e6,
        objectives=", ".join(
            f"{name} x {getattr(weights, name):g}" for name in facts.loss if getattr(weights, name, 0) > 0
        ),
        batch_size=facts.batch_size,
        inputs=_inputs(params),
        steps=facts.steps,
        precision=facts.precision,
        losses=", ".join(f"{name} {value:.4f}" for name, value in facts.loss.items()),
        dense=(DENSE.format(grid=grid) if facts.adapter else "") + _nested(params.sizes, facts.width),
        licence=licence_notes(facts.teachers),
        distilled=" and ".join(facts.teachers),
        also=_also(facts),
        answers=_answers(facts),
        figures=figures,
        keep_the_head=KEEP_THE_HEAD,
    )
