"""The demo's teacher: a small ViT with a convolutional stem, trained on synthetic slides in well under a minute.

It learns to tell the demo's tissue classes from 128 px crops, densely (the share of each class under every patch token)
and as a whole (CLS). Always from the demo slides 1 to 4, never from the user's table, so that adding a slide retrains
nothing. Everything is seeded: the same slides give the same weights on the same kind of machine.

Shapes: N crops, S = 128 px side, P = 16 px patch, T = (S / P)^2 tokens, K classes, D channels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from pipeline.base.files import write_json
from pipeline.base.fitting import Fitting, fit
from pipeline.base.progress import track
from pipeline.base.store import Ref, Store, recipe_key
from pipeline.base.tensors import save_tensors
from pipeline.base.types import Recipe
from pipeline.demo.regions import CLASSES
from pipeline.demo.slides import LABELS_FILE, SLIDE_FILE, demo_mpp, demo_ref, ensure_demo_slide
from pipeline.params.tokens import TokensParams
from pipeline.teachers.layout import to_channels_last
from pipeline.teachers.preparation import Preparation
from pipeline.teachers.teacher import Teacher
from pipeline.views import N_ELEMENTS, apply_view

RECIPE_VERSION = 2
"""Part of the recipe: count up when the same slides would give other weights."""
SLIDES = (1, 2, 3, 4)
INPUT_PX, PATCH_PX, MPP = 128, 16, 0.5
CROP_PX = (128, 160, 224)
"""Crops of these sides are resized to the input's, so that tiles of other sides do not take the teacher by surprise."""
_ARCHITECTURE: dict[str, float] = {"embed_dim": 128, "depth": 4, "num_heads": 4, "mlp_ratio": 3.0}
_STEM = ((24, 2), (48, 2), (96, 2), (96, 1))
"""(channels, stride) of the stem's convolutions before the last, which has the ViT's width and stride 2."""
_LABEL_PX = 64
"""Labels are looked up on so many points a side; the shares of the classes need no more."""
_HALVES = (0.5, 0.5, 0.5)
BATCH, _LR, _SEED = 32, 3e-3, 0

Slide = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""RGB (H, W, 3) and class index (H, W) at MPP."""


class ConvStem(nn.Module):
    """Five convolutions in place of one 16 px projection: local texture is learnt in far fewer steps.

    (N, 3, S, S) -> (N, T, D). Xiao et al. 2021, "Early convolutions help transformers see better".
    """

    def __init__(self, img_size: int, patch_size: int, in_chans: int = 3, embed_dim: int = 128, **_: object) -> None:
        super().__init__()
        self.img_size = (img_size, img_size)
        self.grid_size = (img_size // patch_size, img_size // patch_size)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        layers: list[nn.Module] = []
        before = in_chans
        for after, stride in (*_STEM, (embed_dim, 2)):
            layers += [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
            before = after
        self.proj = nn.Sequential(*layers, nn.Conv2d(embed_dim, embed_dim, 1))

    def forward(self, image_NCHW: Tensor) -> Tensor:
        tokens_NTD: Tensor = self.proj(image_NCHW).flatten(2).transpose(1, 2)
        return tokens_NTD


def build() -> VisionTransformer:
    """The architecture, with seeded random weights."""
    with _seeded():
        return VisionTransformer(
            img_size=INPUT_PX, patch_size=PATCH_PX, num_classes=0, embed_layer=ConvStem, **_ARCHITECTURE
        )


@contextlib.contextmanager
def _seeded() -> Iterator[None]:
    """torch's own generator seeded for the block, and left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        yield


def demo_teacher(params: TokensParams, store: Store, demo_px: int) -> Teacher:
    """The demo teacher for slides of `demo_px`, trained first where the store does not hold it."""
    recipe: Recipe = {
        "slides": [str(demo_ref(number, demo_px)) for number in SLIDES],
        "architecture": {**_ARCHITECTURE, "stem": _STEM},
        "training": {"steps": params.demo_teacher_steps, "batch": BATCH, "lr": _LR, "crop_px": CROP_PX},
        "version": RECIPE_VERSION,
    }
    ref = Ref("teachers", recipe_key(recipe), "demo")
    if not store.has(ref):
        with store.write(ref, recipe) as folder:
            slides = [read_slide(number, demo_px, store) for number in SLIDES]
            save_tensors(folder / "model.safetensors", train(build(), slides, params.demo_teacher_steps).state_dict())
            write_json(folder / "config.json", {**recipe, "input_px": INPUT_PX, "patch_px": PATCH_PX, "mpp": MPP})
    model = build()
    model.load_state_dict(load_file(store.path(ref) / "model.safetensors"))
    return Teacher("demo", model, INPUT_PX, Preparation(_HALVES, _HALVES), uses=(str(ref),))


def read_slide(number: int, demo_px: int, store: Store) -> Slide:
    """One demo slide and its label map at MPP."""
    folder = ensure_demo_slide(number, demo_px, store)
    with Image.open(folder / SLIDE_FILE) as slide, Image.open(folder / LABELS_FILE) as labels:
        factor = demo_mpp(number) / MPP
        side = (round(slide.width * factor), round(slide.height * factor))
        rgb = slide.convert("RGB").resize(side, Image.Resampling.BILINEAR, reducing_gap=2.0)
        return np.asarray(rgb), np.asarray(labels.resize(side, Image.Resampling.NEAREST))


def train(model: VisionTransformer, slides: list[Slide], steps: int) -> VisionTransformer:
    """Train in place, on the CPU; returns the model in eval mode."""
    width, n_classes = model.embed_dim, len(CLASSES)
    with _seeded():
        heads = nn.ModuleDict({"patch": nn.Linear(width, n_classes), "cls": nn.Linear(width, n_classes)})
    everything = to_channels_last(nn.ModuleDict({"model": model, "heads": heads})).train()

    def losses() -> Iterator[Tensor]:
        for image_NCHW, share_NKhw in batches(slides, steps):
            features = model.forward_features(image_NCHW)
            patch_NTK, cls_NK = heads["patch"](features[:, 1:]), heads["cls"](features[:, 0])
            dense = F.cross_entropy(patch_NTK.transpose(1, 2), share_NKhw.flatten(2))
            yield dense + F.cross_entropy(cls_NK, share_NKhw.mean((2, 3)))

    how = Fitting(
        steps=steps,
        lr=_LR,
        weight_decay=0.05,
        warmup_steps=max(1, steps // 10),
        warmup_lr=_LR / 20,
        clip_norm=1.0,
    )
    with track("demo teacher", steps, "steps") as advance:
        fit(everything, losses(), how, lambda loss: advance(1, f"loss {loss:.3f}"))
    return model.eval()


def batches(slides: list[Slide], steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Seeded batches: normalised crops (N, 3, S, S), and the share of each class under every patch (N, K, h, w).

    Every tissue class is as likely to be at a crop's centre, whatever its area.
    """
    rng = np.random.default_rng(_SEED)
    centres = _pixels_by_class(slides)
    for _ in range(steps):
        side = int(rng.choice(CROP_PX))
        crops = [_crop(slides, centres[rng.integers(len(centres))], side, rng) for _ in range(BATCH)]
        image_NCHW = torch.from_numpy(np.stack([rgb for rgb, _ in crops])).permute(0, 3, 1, 2).float() / 255
        at = np.arange(_LABEL_PX) * side // _LABEL_PX
        label_N1HW = torch.from_numpy(np.stack([label[np.ix_(at, at)] for _, label in crops])).unsqueeze(1)
        if side != INPUT_PX:
            image_NCHW = F.interpolate(image_NCHW, (INPUT_PX, INPUT_PX), mode="bilinear", antialias=True)
        member_NKHW = (label_N1HW == torch.arange(len(CLASSES)).view(-1, 1, 1)).float()
        share_NKhw = F.avg_pool2d(member_NKHW, _LABEL_PX * PATCH_PX // INPUT_PX)
        yield (_stain_jitter(image_NCHW, rng) - _HALVES[0]) / _HALVES[0], share_NKhw


def _crop(slides: list[Slide], centres_MX: NDArray[np.int64], side: int, rng: np.random.Generator) -> Slide:
    """A crop around one of `centres_MX` (slide, y, x), in a random dihedral element."""
    i, y, x = centres_MX[rng.integers(len(centres_MX))]
    rgb_HWC, label_HW = slides[i]
    top = int(np.clip(y - side // 2, 0, label_HW.shape[0] - side))
    left = int(np.clip(x - side // 2, 0, label_HW.shape[1] - side))
    box, element = np.s_[top : top + side, left : left + side], int(rng.integers(N_ELEMENTS))
    return apply_view(rgb_HWC[box], element), apply_view(label_HW[box], element)


def _pixels_by_class(slides: list[Slide], every: int = 8) -> list[NDArray[np.int64]]:
    """For each tissue class that is there, (slide, y, x) of every 8th pixel of every 8th row that shows it."""
    found = []
    for k in range(1, len(CLASSES)):
        places = [
            np.insert(np.argwhere(label_HW[::every, ::every] == k) * every, 0, i, axis=1)
            for i, (_, label_HW) in enumerate(slides)
        ]
        found.append(np.concatenate(places))
    return [places_MX for places_MX in found if len(places_MX)]


def _stain_jitter(image_NCHW: Tensor, rng: np.random.Generator) -> Tensor:
    """Each crop's channels to a power near one: stains of other strength, glass still white. Values in 0..1."""
    power = rng.uniform(0.8, 1.25, (len(image_NCHW), 3, 1, 1)).astype(np.float32)
    return image_NCHW.clamp(1e-3, 1) ** torch.from_numpy(power)
