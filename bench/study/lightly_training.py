"""The training of `bench.study.lightly`, by LightlyTrain's Python: needs lightly-train, timm and nothing of ours.

FOLDER holds job.json (`Job` of bench/study/lightly.py), `tiles/` (JPEG, what is trained on) and ask.npz (images, NHWC
uint8, by name). Written into it: answers.npz, and told.json with what it took and the package's version.

    answers.npz   by each name of ask.npz that begins with `student `: the exported model's embedding (N, F) and, as
                  `NAME, head`, what the head of the training makes of it (N, D), of length 1; of those that begin with
                  `teacher `, the teacher's own answer (N, D)

LightlyTrain shows one view of `view_px` to both models, which its wrappers take as they like: here the teacher sees it
as it is, the student at `input_px`, each with its own mean and deviation.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

BATCH = 64
HEAD = "student_projection_head_global"


class Sees(nn.Module):
    """A timm model that takes pixels of 0 to 1, of any side, and sees them at `px` in its own mean and deviation."""

    def __init__(self, model: nn.Module, px: int) -> None:
        super().__init__()
        self.model, self.px = model, px
        self.mean: Tensor
        self.std: Tensor
        told: Any = model.pretrained_cfg
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(told[name]).reshape(1, 3, 1, 1), persistent=False)

    def prepare(self, image_NCHW: Tensor) -> Tensor:
        """As the model takes it."""
        if image_NCHW.shape[-1] != self.px:
            image_NCHW = F.interpolate(image_NCHW, size=(self.px, self.px), mode="bilinear", antialias=True)
        prepared: Tensor = (image_NCHW - self.mean) / self.std
        return prepared

    def get_model(self) -> nn.Module:
        """What is exported."""
        return self.model


class Teacher(Sees):
    """The CNN's last map and its mean, which are the answers that the cache holds.

    LightlyTrain's own wrapper takes the map before timm's last convolution, and its width for that of the one after.
    """

    def forward_features(self, image_NCHW: Tensor) -> dict[str, Tensor]:
        """`features` (N, D, h, w)."""
        forward: Any = self.model.forward_features
        return {"features": forward(self.prepare(image_NCHW))}

    def forward_pool(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        """`pooled_features` (N, D, 1, 1)."""
        return {"pooled_features": found["features"].mean((2, 3), keepdim=True)}

    def feature_dim(self) -> int:
        """D."""
        width: Any = self.model.num_features
        return int(width)


class Student(Sees):
    """LightlyTrain's own wrapper, shown the view at the student's side."""

    def __init__(self, model: nn.Module, px: int) -> None:
        super().__init__(model, px)
        self.wrapped: Any = importlib.import_module("lightly_train._models.timm.timm").TIMMModelWrapper(model)

    def forward_features(self, image_NCHW: Tensor) -> Any:
        """As the wrapper's."""
        return self.wrapped.forward_features(self.prepare(image_NCHW))

    def forward_pool(self, found: Any) -> Any:
        """As the wrapper's."""
        return self.wrapped.forward_pool(found)

    def feature_dim(self) -> int:
        """As the wrapper's."""
        return int(self.wrapped.feature_dim())

    def architecture_info(self) -> Any:
        """As the wrapper's: it decides the weight decay."""
        return self.wrapped.architecture_info()


def timm_model(name: str, weights: str | None) -> nn.Module:
    """Without its classifier; weights are drawn where there is no file of them."""
    made: nn.Module = timm.create_model(name, pretrained=False, num_classes=0)
    if weights is not None:
        missing, unexpected = made.load_state_dict(load_file(weights), strict=False)
        assert not missing, missing
        assert all("classifier" in each for each in unexpected), unexpected
    return made


@torch.inference_mode()
def embedded(model: Any, image_NHWC: Any) -> Tensor:
    """(N, F)."""
    parts = []
    for at in range(0, len(image_NHWC), BATCH):
        image_NCHW = torch.from_numpy(image_NHWC[at : at + BATCH]).permute(0, 3, 1, 2).float() / 255
        parts.append(model.forward_pool(model.forward_features(image_NCHW))["pooled_features"].flatten(1))
    return torch.cat(parts)


def train(job: dict[str, Any], folder: Path, student: Student, teacher: Teacher) -> float:
    """CPU seconds that it took."""
    optim_args = {} if job["lr"] is None else {"lr": job["lr"]}
    began = time.process_time()
    importlib.import_module("lightly_train").pretrain(
        out=folder / "out",
        overwrite=True,
        data=folder / "tiles",
        model=student,
        method="distillationv3",
        method_args={"teacher": teacher},
        epochs=job["epochs"],
        batch_size=job["batch_size"],
        seed=job["seed"],
        optim_args=optim_args,
        transform_args={
            "image_size": (job["view_px"], job["view_px"]),
            "normalize": {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)},
        },
        accelerator="cpu",
        devices=1,
        num_workers=0,
        loggers={"tensorboard": None},
        trainer_args={"max_steps": job["steps"]},
    )
    return time.process_time() - began


def main() -> None:
    """Train, and answer what is asked."""
    folder = Path(sys.argv[1])
    job = json.loads((folder / "job.json").read_text())
    torch.manual_seed(job["seed"])
    student = Student(timm_model(job["model"], None), job["input_px"])
    teacher = Teacher(timm_model(job["teacher"], job["weights"]).eval(), job["view_px"])
    teacher.model.to(memory_format=torch.channels_last)
    spent = train(job, folder, student, teacher)
    student.model.load_state_dict(torch.load(folder / "out/exported_models/exported_last.pt", weights_only=True))
    state = torch.load(folder / "out/checkpoints/last.ckpt", weights_only=False)
    student.eval()
    answers = {}
    with np.load(folder / "ask.npz") as asked:
        for name in asked.files:
            if name.startswith("teacher "):
                answers[name] = embedded(teacher.eval(), asked[name]).numpy()
                continue
            found_NF = embedded(student, asked[name])
            weights, bias = (state["state_dict"][f"{HEAD}.{part}"] for part in ("weight", "bias"))
            answers[name] = found_NF.numpy()
            answers[f"{name}, head"] = F.normalize(F.linear(found_NF, weights, bias), dim=-1).numpy()
    np.savez(folder / "answers.npz", **answers)  # type: ignore[arg-type]
    version = importlib.import_module("lightly_train").__version__
    told = {"version": version, "steps": state["global_step"], "cpu_s": spent}
    (folder / "told.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main()
