"""Nested sizes: their loss is what a plain reference says, and every prefix that is exported is an embedding."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from made.cache import Cache
from made.corpus import tiny
from made.training import in_float64, make_training
from safetensors.torch import load_file

from pipeline.base.errors import StudentError, TrainingError
from pipeline.base.store import Ref
from pipeline.corpus.corpus import open_corpus
from pipeline.corpus.targets import cls_standardiser
from pipeline.params.student import StudentParams
from pipeline.student.export import load_run
from pipeline.student.exported import load_nested
from pipeline.student.model import Distiller, Student
from pipeline.student.recipe import kept_params
from pipeline.student.shipped import nested_sizes, require_size
from pipeline.student.train import train_student

SIZES = (4, 8, 16)


def reference(answer_ND: torch.Tensor, target_ND: torch.Tensor) -> torch.Tensor:
    """0.9 (1 - cosine) + 0.1 smooth-L1, a tile at a time."""
    each = []
    for answer_D, target_D in zip(answer_ND, target_ND, strict=True):
        cosine = answer_D @ target_D / (answer_D.norm() * target_D.norm())
        error_D = (answer_D - target_D).abs()
        smooth = torch.where(error_D < 1, 0.5 * error_D**2, error_D - 0.5).mean()
        each.append(0.9 * (1 - cosine) + 0.1 * smooth)
    return torch.stack(each).mean()


def test_a_step_s_loss_and_gradient_are_the_plain_reference_s(cache: Cache, tmp_path: Path) -> None:
    with in_float64():
        training = make_training(cache, tmp_path, model="test_vit", nested=SIZES, objective={"nested": 2.0, "patch": 0})
        (batch,) = training.loader.batches(0, 1)
        (asked,) = batch.each
        raw, target_ND = training.raw, training.losses.terms[0].cls.forward(asked.cls_ND).double()
        found = training.losses(batch, raw(batch.image_NHWC))
        training.losses.total(found).backward()
        gradient = {name: value.grad.clone() for name, value in raw.named_parameters() if value.grad is not None}
        raw.zero_grad()

        backbone, nested = raw.student.backbone, raw.nested
        image_NCHW = (batch.image_NHWC.permute(0, 3, 1, 2).double() / 255 - raw.student.mean) / raw.student.std
        feature_NF = backbone.forward_head(backbone.forward_features(image_NCHW), pre_logits=True)
        whole = reference(F.linear(feature_NF, *backbone.get_classifier().parameters()), target_ND)
        vector_NK = feature_NF @ nested.project.weight.T + nested.project.bias
        parts = [reference(vector_NK[:, :k] @ nested.head(k).weight.T + nested.head(k).bias, target_ND) for k in SIZES]
        (whole + 2 * sum(parts) / len(parts)).backward()
    torch.testing.assert_close(found["cls"], whole, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(found["nested"], sum(parts) / len(parts), rtol=1e-6, atol=1e-9)
    for name, value in raw.named_parameters():
        if value.grad is not None:
            torch.testing.assert_close(gradient[name], value.grad, rtol=1e-5, atol=1e-8, msg=name)


@pytest.fixture(scope="module")
def exported(cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(models/student, the committed run)."""
    root = tmp_path_factory.mktemp("nested")
    params = tiny(epochs=1, batch_size=40, nested=SIZES, head_hidden=20, objective={"patch": 0})
    out, curve = root / "student", root / "curve.csv"
    manifest, _ = train_student(cache.tiles, cache.tokens, params, cache.store, out=out, curve=curve)
    assert manifest.summary.loss["nested"] > 0 and curve.read_text().splitlines()[0].split(",")[6] == "nested"
    assert (manifest.summary.student["nested"], manifest.summary.student["objective"]["nested"]) == ([*SIZES], 1.0)
    return out, cache.store.path(Ref("checkpoints", manifest.recipe_key, "run"))


def test_each_size_s_first_numbers_come_back_into_the_teachers_space(exported: tuple[Path, Path], cache: Cache) -> None:
    """By timm and the exported file alone, as a user would; the ONNX file answers the same vector."""
    out, item = exported
    _, distiller, _ = load_run(item)
    standardiser = cls_standardiser(open_corpus(cache.tiles, cache.tokens, cache.store))
    image_NHWC = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    model = timm.create_model(f"local-dir:{out}", pretrained=True).eval()
    layers = load_file(out / "nested" / "nested.safetensors")
    assert nested_sizes(out) == load_nested(out).sizes == SIZES
    with torch.no_grad():
        image_NCHW = (image_NHWC.permute(0, 3, 1, 2) / 255 - distiller.student.mean) / distiller.student.std
        feature_NF = model.forward_head(model.forward_features(image_NCHW), pre_logits=True)
        nested_NK = F.linear(feature_NF, layers["project.weight"], layers["project.bias"])
        for size, z_ND in zip(SIZES, distiller(image_NHWC)[0][2], strict=True):
            back_ND = F.linear(nested_NK[:, :size], layers[f"heads.{size}.weight"], layers[f"heads.{size}.bias"])
            torch.testing.assert_close(standardiser.forward(back_ND), z_ND, atol=1e-3, rtol=1e-3)
        embedding_ND = model(image_NCHW)
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(str(out / "model.onnx"), providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["embedding", "nested"]
    found = session.run(None, {"image": image_NCHW.numpy()})
    np.testing.assert_allclose(found[0], embedding_ND, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found[1], nested_NK, rtol=1e-4, atol=1e-4)


def test_off_is_as_if_there_were_no_such_option() -> None:
    """The keys of all students that were trained without it; and a weight of 0 is off."""
    plain, unweighted = tiny(), tiny(nested=SIZES, objective={"nested": 0})
    assert kept_params(plain, several=False) == kept_params(unweighted, several=False) and unweighted.sizes == ()
    told = kept_params(plain, several=False)
    assert "nested" not in told and "nested" not in told["objective"]
    assert (
        kept_params(tiny(nested=SIZES), several=False)
        != kept_params(tiny(nested=(4, 8)), several=False)
        != kept_params(plain, several=False)
    )


def test_sizes_that_are_none_are_refused() -> None:
    for sizes in ([8, 4], [4, 4], [0]):
        with pytest.raises(ValueError, match=r"sizes rise|greater than 0"):
            StudentParams(nested=sizes)
    student = Student("test_vit", width=24, input_px=32)
    with pytest.raises(TrainingError, match=r"student\.nested(?s:.)*24 numbers(?s:.)*up to 23"):
        Distiller(student, None).nest((8, 24), seed=0)
    with pytest.raises(TrainingError, match=r"has 64 features"):
        Distiller(Student("test_vit", width=100, input_px=32), None).nest((8, 65), seed=0)


def test_a_student_without_a_size_says_which_it_has(exported: tuple[Path, Path], tmp_path: Path) -> None:
    require_size(exported[0], 8)
    with pytest.raises(StudentError, match=r"no embedding of 12 numbers(?s:.)*one of 4, 8, 16"):
        require_size(exported[0], 12)
    with pytest.raises(StudentError, match=r"trained without student\.nested"):
        require_size(tmp_path, 8)
    assert json.loads((exported[0] / "nested" / "nested.json").read_bytes())["width"] == 24
