"""The teacher: any timm ViT or CNN, asked for one global embedding and a map of patch tokens.

Shapes: N tiles, C = 3 channels, H = W = input_px, T = h * w patch tokens in row-major order, D channels (`width`).

ViT: `forward_features` is (N, prefix + T, D), final norm applied. CLS is token 0, or timm's own pooling where the model
has no class token or pools otherwise; class and register tokens are left out of the patch tokens.
CNN: `forward_features` is a map (N, D, h, w); the patch tokens are its positions, CLS their mean.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import TeacherError
from pipeline.tokens.weights import weights_digest


class Teacher(nn.Module):
    """A frozen encoder with its preprocessing.

    `input_px` side of its square input; `mean`, `std` of its normalisation (inputs in 0..1); `width` D; `grid` (h, w);
    `tokens` T; `weights_digest`; `convolutional` whether its map is convolutional (channels-last pays then); `uses` the
    store items it was read from.
    """

    def __init__(
        self,
        name: str,
        model: nn.Module,
        input_px: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        uses: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.name, self.input_px, self.mean, self.std, self.uses = name, input_px, mean, std, uses
        self.model = model.eval().requires_grad_(False)
        self.weights_digest = weights_digest(model)
        features = self._probe()
        self.convolutional = features.ndim == 4
        self._channels_last_map = self.convolutional and str(getattr(model, "output_fmt", "NCHW")) == "NHWC"
        self.grid = self._grid(features)
        self.tokens = self.grid[0] * self.grid[1]
        cls_ND, patch_NTD = self._split(features)
        self.width = int(patch_NTD.shape[-1])
        if cls_ND.shape != (1, self.width):
            raise self._refused(f"its embedding is {tuple(cls_ND.shape)}, its patch tokens {tuple(patch_NTD.shape)}")

    def forward(self, image_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        """(cls_ND, patch_NTD), float32, of normalised images (N, 3, input_px, input_px)."""
        cls_ND, patch_NTD = self._split(self.model.forward_features(image_NCHW))  # type: ignore[operator]
        return cls_ND.float(), patch_NTD.float()

    def normalise(self, image_NHWC: Tensor) -> Tensor:
        """uint8 RGB images as the teacher takes them: float32 NCHW, on the same device."""
        mean_C = torch.tensor(self.mean, device=image_NHWC.device)
        std_C = torch.tensor(self.std, device=image_NHWC.device)
        return ((image_NHWC.float() / 255 - mean_C) / std_C).permute(0, 3, 1, 2)

    def describe(self) -> dict[str, Any]:
        """What the teacher's answers depend on, for recipes and manifests."""
        return {
            "name": self.name,
            "weights_digest": self.weights_digest,
            "width": self.width,
            "grid": list(self.grid),
            "input_px": self.input_px,
            "mean": list(self.mean),
            "std": list(self.std),
        }

    def _probe(self) -> Tensor:
        image_NCHW = torch.zeros(1, 3, self.input_px, self.input_px)
        try:
            with torch.inference_mode():
                features = self.model.forward_features(image_NCHW)  # type: ignore[operator]
        except (AssertionError, RuntimeError, ValueError) as error:
            what = f"refuses images of {self.input_px} px: {str(error).splitlines()[0]}"
            fix = "set `tokens.input_px`, or model_kwargs {dynamic_img_size: true} or {img_size: …}"
            raise TeacherError(what, where=f"teacher {self.name}", fix=fix) from None
        except AttributeError:
            raise self._refused("it has no forward_features") from None
        if not isinstance(features, Tensor) or features.ndim not in (3, 4):
            raise self._refused(f"forward_features gives {getattr(features, 'shape', type(features).__name__)}")
        return features

    def _grid(self, features: Tensor) -> tuple[int, int]:
        """(h, w) of the token map of a square image."""
        if self.convolutional:
            h, w = features.shape[1:3] if self._channels_last_map else features.shape[2:4]
        else:
            h = w = math.isqrt(features.shape[1] - self._n_prefix)
            w = (features.shape[1] - self._n_prefix) // max(h, 1)
        if h != w or (not self.convolutional and h * w != features.shape[1] - self._n_prefix):
            raise self._refused(f"its tokens {tuple(features.shape)} are no square map")
        return int(h), int(w)

    def _split(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Global embedding (N, D) and patch tokens (N, T, D) of what forward_features gave."""
        if self.convolutional:
            map_NHWD = features if self._channels_last_map else features.permute(0, 2, 3, 1)
            patch_NTD = map_NHWD.flatten(1, 2)
            return patch_NTD.float().mean(1), patch_NTD
        patch_NTD = features[:, self._n_prefix :]
        if getattr(self.model, "cls_token", None) is not None and getattr(self.model, "global_pool", "") in _TOKEN:
            return features[:, 0], patch_NTD
        return self.model.forward_head(features, pre_logits=True), patch_NTD  # type: ignore[operator]

    @property
    def _n_prefix(self) -> int:
        return int(getattr(self.model, "num_prefix_tokens", 0))

    def _refused(self, what: str) -> TeacherError:
        fix = "take a ViT, or a CNN whose forward_features is one map"
        return TeacherError(what, where=f"teacher {self.name}", fix=fix)


_TOKEN = ("token", "")
