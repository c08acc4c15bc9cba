"""The teacher: any timm ViT or CNN, asked for one global embedding and a map of patch tokens.

Shapes: N tiles, C = 3 channels, H = W = input_px, P prefix tokens (class token and registers), T = h * w patch tokens
in row-major order, D channels (`width`).

It answers in two steps, so that an engine runs the expensive one and one kernel the cheap one:

    raw = trunk(image_NCHW)               timm's forward_features without its final LayerNorm
    cls_ND, patch_NTD = finish(raw)       final LayerNorm in float32, split, pooling

ViT: raw is (N, P + T, D). CLS is token 0, or timm's own pooling where the model has no class token or pools otherwise;
class and register tokens are left out of the patch tokens.
CNN: raw is a map (N, D, h, w), or (N, h, w, D) where timm says so; the patch tokens are its positions, CLS their mean.
Where the last thing that forward_features does is no LayerNorm over D, trunk is all of forward_features.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.base.errors import TeacherError, first_line
from pipeline.base.types import Json, Recipe
from pipeline.teachers.network import Network
from pipeline.teachers.preparation import RESIZED_BY, Preparation
from pipeline.teachers.weights import weights_digest

_TOKEN = ("token", "")


class Trunk(nn.Module):
    """A model's forward_features, without its final norm where `bare`; its parameters are the model's own.

    A module of its own because torch.compile and torch.export want one. The model is copied one level deep: what it is
    made of is shared, so that moving the model moves the trunk, and the model itself stays timm's.
    """

    def __init__(self, model: nn.Module, bare: bool) -> None:
        super().__init__()
        shared = copy.copy(model)
        if bare:
            shared._modules = {**model._modules, "norm": nn.Identity()}
        self.features = shared

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """(N, P + T, D), or a CNN's map, of normalised images (N, 3, input_px, input_px)."""
        raw: Tensor = self.features.forward_features(image_NCHW)  # type: ignore[operator]
        return raw


class Teacher(Network):
    """A frozen encoder with its preprocessing.

    `preparation` of a tile; `width` D; `grid` (h, w); `tokens` T; `n_prefix` P; `cls_is_token` whether CLS is token 0;
    `final_norm` the LayerNorm that `finish` applies, None where trunk's answer is already normed; `convolutional`
    whether raw is a map; `uses` the store items it was read from; `model_kwargs` what it was built with, as plain data;
    `remarks` what was done to fit its weights, and hints.
    """

    trunk: Trunk

    def __init__(
        self,
        name: str,
        model: nn.Module,
        input_px: int,
        preparation: Preparation,
        *,
        uses: tuple[str, ...] = (),
        model_kwargs: Mapping[str, Json] | None = None,
        remarks: tuple[str, ...] = (),
    ) -> None:
        super().__init__(name, input_px, preparation.mean, preparation.std)
        self.model_kwargs, self.uses, self.remarks = dict(model_kwargs or {}), uses, remarks
        self.preparation = preparation
        self.model = model.eval().requires_grad_(False)
        self.weights_digest = weights_digest(model)
        self.n_prefix = int(getattr(model, "num_prefix_tokens", 0))
        has_token = getattr(model, "cls_token", None) is not None
        self.cls_is_token = has_token and getattr(model, "global_pool", "") in _TOKEN
        features, norm_is_last = self._probe()
        # Past nn.Module's bookkeeping: it is no second owner of the model's parameters.
        self.__dict__["trunk"] = Trunk(model, bare=norm_is_last)
        self._norm_is_last = norm_is_last
        self.convolutional = features.ndim == 4
        self._channels_last_map = self.convolutional and str(getattr(model, "output_fmt", "NCHW")) == "NHWC"
        self.grid = self._grid(features)
        self.tokens = self.grid[0] * self.grid[1]
        cls_ND, patch_NTD = self._split(features)
        self.width = int(patch_NTD.shape[-1])
        if cls_ND.shape != (1, self.width):
            raise self._refused(f"its embedding is {tuple(cls_ND.shape)}, its patch tokens {tuple(patch_NTD.shape)}")

    @property
    def final_norm(self) -> nn.LayerNorm | None:
        """The LayerNorm over D between trunk's answer and the tokens; None where there is nothing left to do."""
        norm = self.model.norm if self._norm_is_last else None
        return norm if isinstance(norm, nn.LayerNorm) else None

    def forward(self, image_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        """(cls_ND, patch_NTD), float32, of normalised images (N, 3, input_px, input_px)."""
        return self.finish(self.trunk(image_NCHW))

    def finish(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """(cls_ND, patch_NTD), float32, of what `trunk` or an engine in its place answered, in any float dtype."""
        with torch.autocast(raw.device.type, enabled=False):
            features, norm = raw.float(), self.final_norm
            if norm is not None:
                features = F.layer_norm(features, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
            cls_ND, patch_NTD = self._split(features)
        return cls_ND.float(), patch_NTD

    def embedding(self, raw: Tensor) -> Tensor:
        """The CLS token of `finish`."""
        return self.finish(raw)[0]

    @property
    def where(self) -> str:
        return f"teacher {self.name}"

    def describe(self) -> Recipe:
        """What the teacher's answers depend on, for recipes and manifests."""
        filtered = self.preparation.interpolation
        told: dict[str, Json] = {
            "name": self.name,
            "weights_digest": self.weights_digest,
            "width": self.width,
            "grid": list(self.grid),
            "input_px": self.input_px,
            "mean": list(self.preparation.mean),
            "std": list(self.preparation.std),
            "model_kwargs": self.model_kwargs,
        }
        return told if filtered == RESIZED_BY else told | {"interpolation": filtered}

    def _probe(self) -> tuple[Tensor, bool]:
        """forward_features of one image, and whether a LayerNorm over its last dimension is the last thing it does."""
        normed: list[Tensor] = []
        norm = getattr(self.model, "norm", None)
        image_NCHW = torch.zeros(1, 3, self.input_px, self.input_px)
        hook = norm.register_forward_hook(lambda *seen: normed.append(seen[2])) if isinstance(norm, nn.Module) else None
        try:
            with torch.inference_mode():
                features = self.model.forward_features(image_NCHW)  # type: ignore[operator]
        except Exception as error:
            # Whatever a model of timm's raises for a side or an argument that it cannot take.
            if not hasattr(self.model, "forward_features"):
                raise self._refused("it has no forward_features") from None
            said = first_line(error)
            what = f"refuses images of {self.input_px} px: {said}"
            fix = "set `tokens.input_px`, or `tokens.model_kwargs` {dynamic_img_size: true} or {img_size: …}"
            if self.model_kwargs:
                told = ", ".join(f"{key}: {value!r}" for key, value in self.model_kwargs.items())
                fix += f"; it was made with {told}"
            raise TeacherError(what, where=f"teacher {self.name}", fix=fix) from None
        finally:
            if hook is not None:
                hook.remove()
        if not isinstance(features, Tensor) or features.ndim not in (3, 4):
            raise self._refused(f"forward_features gives {getattr(features, 'shape', type(features).__name__)}")
        over_channels = isinstance(norm, nn.LayerNorm) and features.ndim == 3 and len(norm.normalized_shape) == 1
        return features, over_channels and len(normed) == 1 and normed[0] is features

    def _grid(self, features: Tensor) -> tuple[int, int]:
        """(h, w) of the token map of a square image."""
        if self.convolutional:
            h, w = features.shape[1:3] if self._channels_last_map else features.shape[2:4]
        else:
            h = w = math.isqrt(features.shape[1] - self.n_prefix)
            w = (features.shape[1] - self.n_prefix) // max(h, 1)
        if h != w or (not self.convolutional and h * w != features.shape[1] - self.n_prefix):
            raise self._refused(f"its tokens {tuple(features.shape)} are no square map")
        return int(h), int(w)

    def _split(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Global embedding (N, D) and patch tokens (N, T, D) of what forward_features gave."""
        if self.convolutional:
            map_NHWD = features if self._channels_last_map else features.permute(0, 2, 3, 1)
            patch_NTD = map_NHWD.flatten(1, 2)
            return patch_NTD.float().mean(1), patch_NTD
        patch_NTD = features[:, self.n_prefix :]
        if self.cls_is_token:
            return features[:, 0], patch_NTD
        return self.model.forward_head(features, pre_logits=True), patch_NTD  # type: ignore[operator]

    def _refused(self, what: str) -> TeacherError:
        fix = "take a ViT, or a CNN whose forward_features is one map"
        return TeacherError(what, where=self.where, fix=fix)
