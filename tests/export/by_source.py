"""How each tool takes what its adapter gives, after its source, for where the tool is not installed.

A tool's module of that name is put in place, so that the adapter's imports find it; `ask` then does what the tool does
from there on to an image as it reads it: TRIDENT a91fa84 (patch_encoder_models/load.py, run_batch_of_slides.py), CLAM
53e2409 (models/builder.py, extract_features_fp.py), STAMP c54ce06 (preprocessing/__init__.py), LazySlide 0.13.0
(tools/_features.py), slide2vec 7.1.4 (encoders/base.py, runtime/preprocessing.py), thunder-bench 0.2.2
(models/utils.py), eva 0.4.5 (vision/models/wrappers/from_timm.py).
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import timm
import torch
import yaml
from PIL import Image
from torch import nn


def loaded(file: Path) -> ModuleType:
    """An adapter, with its folder on the path, as Python has it of a file that it runs."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(file.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(file.parent))
        sys.modules.pop("histill_student", None)
    return module


def module(name: str, **content: Any) -> dict[str, ModuleType]:
    """A module of that name and the packages above it."""
    made = {}
    for parent in [name[: i if i > 0 else None] for i in [name.find(".", j) for j in range(len(name))] if i > 0]:
        made.setdefault(parent, ModuleType(parent))
    made[name] = ModuleType(name)
    vars(made[name]).update(content)
    return made


class BasePatchEncoder(nn.Module):
    """TRIDENT's."""

    def __init__(self, weights_path: str | None = None, **build_kwargs: Any) -> None:
        super().__init__()
        self.weights_path = weights_path
        self.model, self.eval_transforms, self.precision = self._build(**build_kwargs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)


def trident(file: Path, image: Image.Image, name: str) -> torch.Tensor:
    registry: dict[str, type] = {}
    with installed(
        module("trident.patch_encoder_models.load", BasePatchEncoder=BasePatchEncoder, encoder_registry=registry)
    ):
        loaded(file)
        encoder = registry[name](weights_path=None)
    assert encoder.enc_name == name and encoder.precision == torch.float32
    return encoder(encoder.eval_transforms(image)[None])


def clam(file: Path, image: Image.Image, name: str) -> torch.Tensor:
    model, transforms = loaded(file).get_encoder("resnet50_trunc", target_img_size=224)
    return model.eval()(transforms(image)[None])


@dataclass(frozen=True, kw_only=True)
class Extractor:
    """STAMP's."""

    model: nn.Module
    transform: Callable[[Image.Image], torch.Tensor]
    identifier: str


def stamp(file: Path, image: Image.Image, name: str) -> torch.Tensor:
    preprocessing = module("stamp.preprocessing.extractor", Extractor=Extractor)
    vars(preprocessing["stamp"])["preprocessing"] = preprocessing["stamp.preprocessing"]
    with installed(preprocessing):
        extractor = loaded(file).student()
    assert extractor.identifier == name
    return extractor.model.to("cpu").eval()(extractor.transform(image)[None])


def lazyslide(file: Path, image: Image.Image, name: str) -> torch.Tensor:
    def feature_extraction(wsi, model=None, *, model_name=None, transform=None, batch_size=32):
        assert callable(model) and model_name == name and batch_size == 8
        return model.to("cpu")(torch.stack([transform(tile) for tile in wsi]))

    with installed(module("lazyslide", tl=SimpleNamespace(feature_extraction=feature_extraction))):
        return loaded(file).features([np.asarray(image)], batch_size=8)


class TorchTileEncoder:
    """slide2vec's."""

    def __init__(self, model, *, encode_dim, input_size, mean, std, output_variant=None):
        self._encode_dim, self._input_size, self._mean, self._std = encode_dim, input_size, mean, std
        self._model, self.device = model.eval(), torch.device("cpu")


def slide2vec(file: Path, image: Image.Image, name: str) -> torch.Tensor:
    presets: dict[str, tuple[type, dict[str, Any]]] = {}

    def register_encoder(name: str, **metadata: Any) -> Callable[[type], type]:
        return lambda encoder: presets.setdefault(name, (encoder, metadata))[0]

    made = module("slide2vec.encoders.base", TorchTileEncoder=TorchTileEncoder)
    vars(made["slide2vec"])["register_encoder"] = register_encoder
    with installed(made):
        loaded(file)
    make, told = presets[name]
    encoder = make(output_variant=None)
    # As it is read, at the size that the preset names, and kept to that size.
    tile_CHW = torch.from_numpy(np.array(image.resize((told["input_size"],) * 2, Image.Resampling.BICUBIC)))
    batch = torch.stack([encoder.get_normalization_transform()(tile_CHW.permute(2, 0, 1))])
    assert batch.shape[-2:] == (told["input_size"],) * 2
    answer = encoder.encode_tiles(batch)
    assert answer.shape[1] == told["encode_dim"] == encoder._encode_dim
    return answer


def thunder(file: Path, image: Image.Image, name: str) -> torch.Tensor:
    base = type("PretrainedModel", (nn.Module,), {})
    with installed(module("thunder.models.pretrained_models", PretrainedModel=base)):
        source = loaded(file)
    (make,) = [
        each for _, each in inspect.getmembers(source, inspect.isclass) if issubclass(each, base) and each is not base
    ]
    model = make()
    batch = model.get_transform()(image)[None]
    assert model.name == name and not model.vlm
    assert model.get_segmentation_embeddings(batch).shape[2] == model.emb_dim_seg
    answer = model.get_linear_probing_embeddings(batch)
    assert answer.shape == (1, model.emb_dim)
    return answer


def eva(file: Path, image: Image.Image, name: str) -> torch.Tensor:
    config = yaml.safe_load(file.read_text())
    (writer,) = config["trainer"]["init_args"]["callbacks"]
    told = writer["init_args"]["backbone"]["init_args"]
    # Paths are from the folder in which it is run.
    arguments = told["model_kwargs"] | {"checkpoint_path": file.parent / told["model_kwargs"]["checkpoint_path"]}
    cfg, model_name = {"pretrained_cfg": {}, "out_indices": None, "features_only": False}, told["model_name"]
    model = timm.create_model(model_name, pretrained=told["pretrained"], **cfg, **arguments).eval()
    transforms = config["data"]["init_args"]["datasets"]["predict"][0]["init_args"]["transforms"]
    assert config["model"]["init_args"]["head"]["init_args"]["in_features"] == model.num_classes
    return model(built(transforms)(torch.from_numpy(np.array(image)).permute(2, 0, 1))[None])


def built(told: dict[str, Any]) -> Any:
    """A class by its path and arguments, as jsonargparse makes it."""
    place, _, kind = told["class_path"].rpartition(".")
    arguments = {
        name: [built(each) for each in value] if name == "transforms" else value
        for name, value in told.get("init_args", {}).items()
    }
    return getattr(importlib.import_module(place), kind)(**arguments)


class installed:  # noqa: N801 used as a statement
    """Those modules are what an import finds, for a while."""

    def __init__(self, modules: dict[str, ModuleType]) -> None:
        self.modules = modules

    def __enter__(self) -> None:
        self.before = {name: sys.modules.get(name) for name in self.modules}
        sys.modules.update(self.modules)

    def __exit__(self, *_: object) -> None:
        for name, was in self.before.items():
            if was is None:
                del sys.modules[name]
            else:
                sys.modules[name] = was


TOOLS = {
    "trident": trident,
    "clam": clam,
    "stamp": stamp,
    "lazyslide": lazyslide,
    "slide2vec": slide2vec,
    "thunder": thunder,
    "eva": eva,
}
