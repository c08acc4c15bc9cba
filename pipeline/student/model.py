"""The student, any timm model with as many outputs as the teacher is wide, and what is trained: student plus adapter.

timm's EfficientViT computes its attention, and the division in it, in fp32 whatever autocast says
(`timm.models.efficientvit_mit.LiteMLA`), without which fp16 gives NaN; nothing here needs to repeat it.

Shapes: N tiles, H = W = `input_px`, C channels of a stage, T teacher positions, D teacher width, E that of all
teachers together.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import timm
import torch
from torch import Tensor, nn

from pipeline.base.errors import TrainingError
from pipeline.base.items import AdapterArguments
from pipeline.base.types import Json
from pipeline.student.adapters import ADAPTERS, Adapter
from pipeline.student.heads import apart, beside, expanded, folded, put_last
from pipeline.student.nested import Nested, drawn
from pipeline.teachers.arguments import BadArgument, blame, require_possible, require_types
from pipeline.teachers.layout import to_channels_last

N_STAGES = 2
"""Feature maps given to the adapter: of the two coarsest strides (16 and 32 for most nets)."""


@dataclass(frozen=True)
class Stage:
    """A feature map of the student: its index among timm's intermediates, channels, and cells."""

    index: int
    channels: int
    grid: tuple[int, int]


class Student(nn.Module):
    """A timm model that answers in the teacher's (standardised) space.

    Raises `TrainingError` for a name timm does not know, and for a model that cannot take `input_px`, shows no feature
    map or does not end in a linear layer.
    """

    def __init__(self, model: str, width: int, input_px: int, model_kwargs: Mapping[str, Json] | None = None) -> None:
        super().__init__()
        if not timm.is_model(model):
            near = ", ".join(difflib.get_close_matches(model, timm.list_models(), n=3)) or "efficientvit_b0"
            raise TrainingError("timm has no such model", where=f"student.model: {model}", fix=f"did you mean {near}?")
        self.input_px = input_px
        self.fixed_input = bool(getattr(timm.get_pretrained_cfg(model), "fixed_input_size", False))
        self.model_args: dict[str, Json] = {
            **({"img_size": input_px} if self.fixed_input else {}),
            **(model_kwargs or {}),
        }
        self.widths: tuple[int, ...] = (width,)
        """Of the heads that the last layer holds side by side."""
        self.backbone = self._made(model, width, model_kwargs or {})
        self.mean: Tensor
        self.std: Tensor
        for name in ("mean", "std"):
            self.register_buffer(name, torch.empty(1, 3, 1, 1), persistent=False)
        self.normalise_by(self.backbone.pretrained_cfg["mean"], self.backbone.pretrained_cfg["std"])
        last = self.last
        self.stages = self._stages(model, width, input_px)
        if last.bias is None:
            fix = "choose another student.model (efficientvit_b0 …)"
            raise TrainingError("its last layer has no bias to fold the teacher's mean into", where=model, fix=fix)

    @property
    def last(self) -> nn.Linear:
        """The linear layer that ends in the teacher's space. Raises `TrainingError` where the head ends otherwise."""
        layer = self.backbone.get_classifier()
        if not isinstance(layer, nn.Linear):
            name = self.backbone.pretrained_cfg["architecture"]
            what = f"its head ends in {type(layer).__name__}, not a linear layer that answers in the teacher's space"
            raise TrainingError(what, where=name, fix="choose another student.model (efficientvit_b0 …)")
        return layer

    def widen(self, widths: Sequence[int], seed: int) -> None:
        """Give the last layer further heads of so many outputs, side by side, their weights drawn by `seed`."""
        last = self.last
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            put_last(self.backbone, last, beside(last, widths).to(last.weight.device))
        self.widths = (*self.widths, *widths)

    def narrow(self) -> list[nn.Linear]:
        """Take the heads apart: the first alone is the last layer, the others are given back."""
        last = self.last
        first, *others = apart(last, self.widths)
        put_last(self.backbone, last, first)
        self.widths = self.widths[:1]
        return others

    def expand_head(self, hidden: int, seed: int) -> None:
        """Put two linear layers with batch norm between them in each head's place, their weights drawn by `seed`."""
        last = self.last
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            head = expanded(last, hidden, self.widths)
        put_last(self.backbone, last, head.to(last.weight.device))

    def fold_head(self) -> None:
        """Put the one linear layer in their place that answers as they do in evaluation mode; without them, nothing."""
        head = self.backbone.get_classifier()
        if isinstance(head, nn.Sequential):
            put_last(self.backbone, head, folded(head))

    def normalise_by(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Take the mean and deviation of red, green and blue, 0 to 1, from what weights were trained with."""
        self.backbone.pretrained_cfg = {**self.backbone.pretrained_cfg, "mean": tuple(mean), "std": tuple(std)}
        for buffer, values in ((self.mean, mean), (self.std, std)):
            buffer.copy_(torch.tensor(values).view(1, 3, 1, 1))

    def forward(self, image_NHWC: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Images, 0 to 255 in any type, to (embedding_NE, the maps of `stages` as (N, C, h, w)), in one pass."""
        final, maps = self._maps(image_NHWC)
        return self.backbone.forward_head(final), maps

    def with_feature(self, image_NHWC: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """The same, and feature_NF, of which the last layer makes the embedding."""
        final, maps = self._maps(image_NHWC)
        feature_NF = self.backbone.forward_head(final, pre_logits=True)
        return self.backbone.get_classifier()(feature_NF), maps, feature_NF

    def _maps(self, image_NHWC: Tensor) -> tuple[Tensor, list[Tensor]]:
        # Permuting NHWC leaves it in memory as it is, which is what torch calls channels_last.
        image_NCHW = (image_NHWC.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
        indices = [stage.index for stage in self.stages]
        final, maps = self.backbone.forward_intermediates(image_NCHW, indices=indices, output_fmt="NCHW")
        return final, list(maps)

    def _made(self, model: str, width: int, told: Mapping[str, Json]) -> Any:
        """timm's model. Raises `TrainingError` that names the argument which timm does not take."""

        def build(kwargs: Mapping[str, object]) -> nn.Module:
            made: nn.Module = timm.create_model(model, pretrained=False, num_classes=width, **{**own, **kwargs})
            return made

        own = {key: value for key, value in self.model_args.items() if key not in told}
        try:
            require_possible(told)
            made = build(told)
            require_types(made, told)
        except Exception as error:
            # What timm raises for an argument that it does not check is of any kind.
            refused = error if isinstance(error, BadArgument) else blame(build, told, error)
            if refused is None:
                raise self._cannot_take(model, self.input_px, error) from error
            where = f"student.model_kwargs of {model}"
            raise TrainingError(refused.what, where=where, fix=refused.fix) from error
        return made

    def _cannot_take(self, model: str, input_px: int, error: Exception) -> TrainingError:
        fix = "choose another student.model (efficientvit_b0 …) or student.input_px"
        if self.model_args:
            told = ", ".join(f"{key}: {value!r}" for key, value in self.model_args.items())
            fix += f", or look at student.model_kwargs ({told})"
        what = str(error) or type(error).__name__
        return TrainingError(f"it does not answer for {input_px} px: {what}", where=model, fix=fix)

    @torch.no_grad()
    def _stages(self, model: str, width: int, input_px: int) -> tuple[Stage, ...]:
        """The last map of each resolution, the `N_STAGES` coarsest, found by a pass over one grey tile."""
        self.eval()
        try:
            grey = torch.zeros(1, 3, input_px, input_px)
            final, maps = self.backbone.forward_intermediates(grey, output_fmt="NCHW")
            shape = tuple(self.backbone.forward_head(final).shape)
        except Exception as error:
            # Whatever a model of timm's raises at a side that it cannot take; an IndexError is among them.
            raise self._cannot_take(model, input_px, error) from error
        finally:
            self.train()
        if shape != (1, width):
            fix = "leave out of student.model_kwargs what pools its maps or ends it otherwise"
            raise TrainingError(f"it answers {shape} for one tile, not (1, {width})", where=model, fix=fix)
        found = {tuple(m.shape[-2:]): Stage(i, m.shape[1], (m.shape[2], m.shape[3])) for i, m in enumerate(maps)}
        return tuple(sorted(found.values(), key=lambda stage: stage.index)[-N_STAGES:])


Answer = tuple[Tensor, Tensor | None] | tuple[Tensor, Tensor | None, list[Tensor]]
"""embedding_ND; map_NTD, None without an adapter; of the first teacher, with nested sizes, what each answers (N, D)."""


class Distiller(nn.Module):
    """What is trained: a student, and where the patch objective is on, its adapter. One forward, so DDP can wrap it.

    Nested sizes, where they are asked for, answer in the first teacher's space.
    Of several teachers each has a head in the student's last layer, and an adapter where its patch tokens are learnt.
    With `autocast` (a dtype; None is fp32) it computes and answers in that type; what needs fp32 keeps it.
    """

    def __init__(self, student: Student, adapter: Adapter | None) -> None:
        super().__init__()
        self.student, self.adapter = student, adapter
        self.further = nn.ModuleDict()
        """Adapters of further teachers, by their places: "1" of the second."""
        self.log_variance: nn.Parameter | None
        self.register_parameter("log_variance", None)
        """Of each teacher's loss, where that balances them (losses.py)."""
        self.nested: Nested | None = None
        self.autocast: torch.dtype | None = None

    def nest(self, sizes: Sequence[int], seed: int) -> None:
        """Add nested sizes with weights drawn from `seed`; of none, nothing. Raises `TrainingError`."""
        if sizes:
            student = self.student
            self.nested = drawn(student.backbone, student.input_px, sizes, student.widths[0], seed)

    @property
    def adapters(self) -> tuple[Adapter | None, ...]:
        """One a teacher; None where its patch tokens are not learnt."""
        found = dict(self.further.items())
        others = (found.get(str(place)) for place in range(1, len(self.student.widths)))
        return (self.adapter, *(cast("Adapter | None", one) for one in others))

    def forward(self, image_NHWC: Tensor) -> tuple[Answer, ...]:
        """Of images, 0 to 255, an answer a teacher."""
        with torch.autocast(image_NHWC.device.type, self.autocast, enabled=self.autocast is not None):
            if self.nested is None:
                embedding_NE, maps = self.student(image_NHWC)
            else:
                embedding_NE, maps, feature_NF = self.student.with_feature(image_NHWC)
            dense = [None if adapter is None else adapter(maps) for adapter in self.adapters]
            answers = tuple(zip(embedding_NE.split(self.student.widths, dim=1), dense, strict=True))
            return answers if self.nested is None else ((*answers[0], self.nested(feature_NF)), *answers[1:])

    def no_weight_decay(self) -> set[str]:
        """Names that timm's optimiser factory leaves undecayed, besides biases and norms."""
        names: set[str] = set()
        further = [(f"further.{name}", module) for name, module in self.further.items()]
        for prefix, module in (("student.backbone", self.student.backbone), ("adapter", self.adapter), *further):
            undecayed: Callable[[], set[str]] = getattr(module, "no_weight_decay", set)
            names |= {f"{prefix}.{name}" for name in undecayed()}
        return names


@dataclass(frozen=True)
class Head:
    """A further teacher's: its D and token grid; `dense` says whether its patch tokens are learnt."""

    width: int
    grid: tuple[int, int]
    dense: bool


def add_heads(
    distiller: Distiller, heads: Sequence[Head], adapter: str, seed: int
) -> tuple[AdapterArguments | None, ...]:
    """Give a distiller of one teacher those of further ones, drawn by `seed`; what the adapters were made with.

    What it has of the first teacher stays as it is: a student of several starts where that of the first does.
    """
    distiller.student.widen([head.width for head in heads], seed)
    made = []
    for place, head in enumerate(heads, start=1):
        arguments = adapter_arguments(distiller.student, head.width, head.grid) if head.dense else None
        made.append(arguments)
        if arguments is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed + place)
                distiller.further[str(place)] = to_channels_last(ADAPTERS[adapter](**dict(arguments)))
    return tuple(made)


def adapter_arguments(student: Student, width: int, grid: tuple[int, int]) -> AdapterArguments:
    """For one to tokens of that width and grid."""
    return AdapterArguments(
        channels=tuple(stage.channels for stage in student.stages),
        grids=tuple(stage.grid for stage in student.stages),
        grid=grid,
        width=width,
    )


def build(
    *,
    model: str,
    width: int,
    input_px: int,
    adapter: str | None,
    grid: tuple[int, int],
    seed: int,
    model_kwargs: Mapping[str, Json] | None = None,
) -> tuple[Distiller, AdapterArguments | None]:
    """A distiller with weights drawn from `seed`, and the arguments its adapter was made with (None without one).

    `grid` is the teacher's; `width` its D. Leaves torch's own random state as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = Student(model, width, input_px, model_kwargs)
        if adapter is None:
            return to_channels_last(Distiller(student, None)), None
        arguments = adapter_arguments(student, width, grid)
        module = ADAPTERS[adapter](**dict(arguments))
        return to_channels_last(Distiller(student, module)), arguments
