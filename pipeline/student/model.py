"""The student, any timm model with as many outputs as the teacher is wide, and what is trained: student plus adapter.

timm's EfficientViT computes its attention, and the division in it, in fp32 whatever autocast says
(`timm.models.efficientvit_mit.LiteMLA`), without which fp16 gives NaN; nothing here needs to repeat it.

Shapes: N tiles, H = W = `input_px`, C channels of a stage, T teacher positions, D teacher width,
F the student's features, H (of a head) its hidden channels.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import timm
import torch
from torch import Tensor, nn

from pipeline.base.errors import TrainingError
from pipeline.base.items import AdapterArguments
from pipeline.base.types import Json
from pipeline.student.adapters import ADAPTERS, Adapter
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

    def expand_head(self, hidden: int, seed: int) -> None:
        """Put two linear layers with batch norm between them in the last one's place, their weights drawn by `seed`."""
        last = self.last
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            head = expanded(last, hidden)
        self._put_last(last, head.to(last.weight.device))

    def fold_head(self) -> None:
        """Put the one linear layer in their place that answers as both do in evaluation mode; without them, nothing."""
        head = self.backbone.get_classifier()
        if isinstance(head, nn.Sequential):
            self._put_last(head, folded(head))

    def _put_last(self, old: nn.Module, new: nn.Module) -> None:
        (name,) = [name for name, module in self.backbone.named_modules() if module is old]
        parent, _, own = name.rpartition(".")
        setattr(self.backbone.get_submodule(parent), own, new)

    @torch.no_grad()
    def require_features(self) -> None:
        """Raise `TrainingError` where the last layer does not make the answer of the features that timm shows."""
        side, was = self.input_px, self.training
        grey = torch.full((1, side, side, 3), 128, dtype=torch.uint8, device=self.mean.device)
        self.eval()
        try:
            whole_1D, parted_1D = self(grey)[0], self.with_feature(grey)[0]
            same = whole_1D.shape == parted_1D.shape and torch.allclose(whole_1D, parted_1D, rtol=1e-4, atol=1e-5)
        except (RuntimeError, TypeError):
            # A head that takes no `pre_logits`, or shows features of another shape.
            same = False
        finally:
            self.train(was)
        if not same:
            name, fix = (
                self.backbone.pretrained_cfg["architecture"],
                "leave student.nested empty, or take another student.model",
            )
            raise TrainingError("timm does not show the features before its last layer", where=name, fix=fix)

    def normalise_by(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Take the mean and deviation of red, green and blue, 0 to 1, from what weights were trained with."""
        self.backbone.pretrained_cfg = {**self.backbone.pretrained_cfg, "mean": tuple(mean), "std": tuple(std)}
        for buffer, values in ((self.mean, mean), (self.std, std)):
            buffer.copy_(torch.tensor(values).view(1, 3, 1, 1))

    def forward(self, image_NHWC: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Images, 0 to 255 in any type, to (embedding_ND, the maps of `stages` as (N, C, h, w)), in one pass."""
        final, maps = self._maps(image_NHWC)
        return self.backbone.forward_head(final), maps

    def with_feature(self, image_NHWC: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """The same, and feature_NF, from which the last layer makes the embedding."""
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


def expanded(last: nn.Linear, hidden: int) -> nn.Sequential:
    """Two linear layers with batch norm between them, of as many inputs and outputs as `last`: F -> `hidden` -> D.

    While it is trained a product of two matrices takes other steps than one, and the norm gives each direction of the
    student's features the same say whatever its spread; what it can say is the same, and it is shipped as one layer.
    Sources: a linear projector with batch norm in distillation of features, Miles and Mikolajczyk ("Understanding the
    role of the projector in knowledge distillation", AAAI 2024); wider linear layers folded after training, Guo et al.
    ("ExpandNets", NeurIPS 2020).
    """
    return nn.Sequential(
        nn.Linear(last.in_features, hidden, bias=False), nn.BatchNorm1d(hidden), nn.Linear(hidden, last.out_features)
    )


@torch.no_grad()
def folded(head: nn.Sequential) -> nn.Linear:
    """The one layer that answers what `expanded`'s three answer in evaluation mode, in float64 and then rounded."""
    into, norm, out = head
    assert isinstance(into, nn.Linear) and isinstance(norm, nn.BatchNorm1d) and isinstance(out, nn.Linear)
    assert norm.running_var is not None and norm.running_mean is not None
    gain_H = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    shift_H = norm.bias.double() - gain_H * norm.running_mean.double()
    weight_DH = out.weight.double()
    one = nn.Linear(into.in_features, out.out_features, device=out.weight.device)
    one.weight.copy_((weight_DH * gain_H) @ into.weight.double())
    one.bias.copy_(out.bias.double() + weight_DH @ shift_H)
    return one


class Answers(NamedTuple):
    """embedding_ND; map_NTD, None without an adapter; and what each nested size answers, [(N, D)]."""

    embedding_ND: Tensor
    map_NTD: Tensor | None
    nested: list[Tensor]


class Distiller(nn.Module):
    """What is trained: a student, where the patch objective is on its adapter, and the nested sizes that are asked for.

    One forward, so DDP can wrap it.

    With `autocast` (a dtype; None is fp32) it computes and answers in that type; what needs fp32 keeps it.
    """

    def __init__(self, student: Student, adapter: Adapter | None) -> None:
        super().__init__()
        self.student, self.adapter = student, adapter
        self.nested: Nested | None = None
        self.autocast: torch.dtype | None = None

    def nest(self, sizes: Sequence[int], seed: int) -> None:
        """Add nested sizes with weights drawn from `seed`; of none, nothing. Raises `TrainingError`."""
        if sizes:
            last = self.student.last
            self.student.require_features()
            self.nested = drawn(sizes, last.in_features, last.out_features, seed).to(last.weight.device)

    def forward(self, image_NHWC: Tensor) -> Answers:
        """Of images, 0 to 255."""
        with torch.autocast(image_NHWC.device.type, self.autocast, enabled=self.autocast is not None):
            if self.nested is None:
                embedding_ND, maps = self.student(image_NHWC)
                nested = list[Tensor]()
            else:
                embedding_ND, maps, feature_NF = self.student.with_feature(image_NHWC)
                nested = self.nested(feature_NF)
            return Answers(embedding_ND, None if self.adapter is None else self.adapter(maps), nested)

    def no_weight_decay(self) -> set[str]:
        """Names that timm's optimiser factory leaves undecayed, besides biases and norms."""
        names: set[str] = set()
        for prefix, module in (("student.backbone", self.student.backbone), ("adapter", self.adapter)):
            undecayed: Callable[[], set[str]] = getattr(module, "no_weight_decay", set)
            names |= {f"{prefix}.{name}" for name in undecayed()}
        return names


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
        arguments = AdapterArguments(
            channels=tuple(stage.channels for stage in student.stages),
            grids=tuple(stage.grid for stage in student.stages),
            grid=grid,
            width=width,
        )
        module = ADAPTERS[adapter](**dict(arguments))
        return to_channels_last(Distiller(student, module)), arguments
