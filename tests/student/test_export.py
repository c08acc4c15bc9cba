from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from made.cache import Cache
from made.corpus import tiny
from PIL import Image
from project import ROOT
from safetensors.torch import load_file
from torch import nn

from pipeline.base.errors import TrainingError
from pipeline.base.items import StudentFacts
from pipeline.base.store import Ref
from pipeline.corpus.corpus import open_corpus
from pipeline.corpus.statistics import cls_statistics
from pipeline.student.adapters import ADAPTERS
from pipeline.student.card import DEMO_LICENCE, KEEP_THE_HEAD, OTHER_LICENCE, UNI_LICENCE, licence_note, model_card
from pipeline.student.export import load_run, write_student_onnx
from pipeline.student.exported import load_dense, load_student
from pipeline.student.train import train_student

MODELS: dict[str, dict[str, Any]] = {
    "efficientvit_b0": {"widths": [8, 16, 24, 48, 96], "depths": [1] * 5, "head_dim": 16, "head_widths": [48, 48]},
    "test_vit": {},
}


@pytest.fixture(scope="module", params=MODELS)
def exported(
    request: pytest.FixtureRequest, cache: Cache, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """(models/student, the committed run)."""
    out = tmp_path_factory.mktemp("export") / "student"
    kwargs = MODELS[request.param]
    params = tiny(model=request.param, model_kwargs=kwargs, epochs=1, batch_size=40, input_px=64)
    manifest, _ = train_student(cache.tiles, cache.tokens, params, cache.store, out=out, curve=out.parent / "curve.csv")
    return out, cache.store.path(Ref("checkpoints", manifest.recipe_key, "run"))


def images(side: int) -> torch.Tensor:
    return torch.randint(0, 256, (3, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_timm_alone_answers_in_the_teachers_space(exported: tuple[Path, Path], cache: Cache) -> None:
    out, item = exported
    mean_D, std_D = cls_statistics(open_corpus(cache.tiles, cache.tokens, cache.store))
    _, distiller, _ = load_run(item)
    model = timm.create_model(f"local-dir:{out}", pretrained=True).eval()
    config = timm.data.resolve_model_data_config(model)
    assert list(config["input_size"]) == [3, 64, 64]
    image_NHWC = images(64)
    mean, std = (torch.tensor(config[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        z_ND = distiller.student(image_NHWC)[0].numpy()
        x_ND = model((image_NHWC.permute(0, 3, 1, 2) / 255 - mean) / std).numpy()
    np.testing.assert_allclose(x_ND, z_ND * std_D + mean_D, atol=1e-4, rtol=1e-4)


def test_the_models_own_transform_takes_a_tile_as_it_was_trained(exported: tuple[Path, Path]) -> None:
    model = timm.create_model(f"local-dir:{exported[0]}", pretrained=True)
    config = timm.data.resolve_model_data_config(model)
    assert (config["crop_pct"], config["interpolation"]) == (1.0, "bicubic")


SPACE = (("mu", "mean"), ("sigma", "scale"))


def test_the_adapter_answers_in_the_patch_tokens_space(exported: tuple[Path, Path]) -> None:
    out, item = exported
    _, distiller, targets = load_run(item)
    described = json.loads((out / "adapter" / "adapter.json").read_text())
    space = json.loads((out / "adapter" / "space.json").read_text())
    assert all(np.array_equal(np.float32(space[ours]), targets[f"patch_{theirs}"]) for ours, theirs in SPACE)
    adapter = ADAPTERS[described["adapter"]](**described["arguments"])
    adapter.load_state_dict(load_file(out / "adapter" / "adapter.safetensors"))
    with torch.no_grad():
        _, maps = distiller.student(images(64))
        expected = distiller.adapter(maps) * targets["patch_scale"] + targets["patch_mean"]
        assert torch.allclose(adapter(maps), expected, atol=1e-4)


def test_the_adapters_onnx_file_answers_both_as_pytorch_for_any_batch(exported: tuple[Path, Path]) -> None:
    runtime = pytest.importorskip("onnxruntime")
    dense = load_dense(exported[0], load_student(exported[0]))
    assert dense is not None
    file = exported[0] / "adapter" / "dense.onnx"
    session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["embedding", "patch"]
    for n in (1, 3):
        image_NCHW = torch.randn(n, 3, 64, 64, generator=torch.Generator().manual_seed(n))
        with torch.inference_mode():
            wanted = [answer.numpy() for answer in dense(image_NCHW)]
        for found, answer in zip(session.run(None, {"image": image_NCHW.numpy()}), wanted, strict=True):
            np.testing.assert_allclose(found, answer, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("exported", ["efficientvit_b0"], indirect=True)
def test_another_process_loads_it_without_our_code_and_with_it_writes_the_same_onnx_file(
    exported: tuple[Path, Path], tmp_path: Path
) -> None:
    code = (
        "import sys, timm, torch\n"
        f"m = timm.create_model('local-dir:{exported[0]}', pretrained=True).eval()\n"
        "assert m(torch.zeros(1, 3, 64, 64)).shape == (1, 24)\n"
        "assert not any(name.split('.')[0] == 'pipeline' for name in sys.modules)\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from pathlib import Path\n"
        "from pipeline.student.export import write_student_onnx\n"
        "from pipeline.student.exported import load_student\n"
        f"write_student_onnx(load_student(Path({str(exported[0])!r})), 64, Path('again.onnx'))\n"
    )
    subprocess.run([sys.executable, "-I", "-c", code], check=True, cwd=tmp_path)
    assert (tmp_path / "again.onnx").read_bytes() == (exported[0] / "model.onnx").read_bytes()


def test_a_student_that_onnx_cannot_hold_is_refused(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, image_NCHW: torch.Tensor) -> torch.Tensor:
            return torch.linalg.eigvals(image_NCHW[:, 0]).real

    with pytest.raises(TrainingError, match=r"student\.model: it cannot be written as ONNX(?s:.)*choose another"):
        write_student_onnx(Odd(), 32, tmp_path / "model.onnx")


def test_timm_sees_one_file_of_weights(exported: tuple[Path, Path]) -> None:
    """With two, 1.0.16 to 1.0.28 end in a NameError."""
    assert [path.name for path in exported[0].glob("*.safetensors")] == ["model.safetensors"]


def test_an_adapter_beside_the_weights_as_earlier_exports_have_it_is_found(
    exported: tuple[Path, Path], tmp_path: Path
) -> None:
    shutil.copytree(exported[0], tmp_path / "student")
    for path in (tmp_path / "student" / "adapter").iterdir():
        path.rename(tmp_path / "student" / path.name)
    (tmp_path / "student" / "adapter").rmdir()
    backbone = load_student(tmp_path / "student")
    found, expected = load_dense(tmp_path / "student", backbone), load_dense(exported[0], backbone)
    assert found is not None and expected is not None
    for name, value in expected.adapter.state_dict().items():
        assert torch.equal(found.adapter.state_dict()[name], value)


def test_no_tool_gets_the_penultimate_layer_without_a_word(exported: tuple[Path, Path]) -> None:
    """What LazySlide, slide2vec and many scripts ask of timm; the last layer answers in the teacher's space."""
    with pytest.raises(RuntimeError, match="Unexpected key"):
        timm.create_model(f"local-dir:{exported[0]}", pretrained=True, num_classes=0)
    assert f"**{KEEP_THE_HEAD}**" in (exported[0] / "README.md").read_text()
    config = json.loads((exported[0] / "config.json").read_text())
    assert KEEP_THE_HEAD in config["pretrained_cfg"]["description"]


OTHER_TIMMS = [Path(folder) for folder in os.environ.get("HISTILL_OTHER_TIMMS", "").split(os.pathsep) if folder]


@pytest.mark.skipif(
    not OTHER_TIMMS,
    reason="pip install --no-deps --target DIR timm==1.0.20; HISTILL_OTHER_TIMMS=DIR (several: DIR:DIR)",
)
@pytest.mark.parametrize("folder", OTHER_TIMMS, ids=lambda folder: folder.name)
@pytest.mark.parametrize("exported", ["efficientvit_b0"], indirect=True)
def test_the_card_s_own_code_answers_alike_in_another_timm(
    exported: tuple[Path, Path], folder: Path, tmp_path: Path
) -> None:
    """Its first block where timm knows `local-dir`, and its second one, for those before, everywhere."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "student").symlink_to(exported[0])
    ask, by_file = re.findall(r"```python\n(.*?)```", (exported[0] / "README.md").read_text(), re.DOTALL)
    noise_HWC = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    Image.fromarray(noise_HWC).save(tmp_path / "tile.png")
    first = "from PIL import Image\ntile = Image.open('tile.png')\n"
    last = "\nprint(timm.__version__, embedding[0].tolist())"
    whole = by_file + "embedding = model(transform(tile).unsqueeze(0))"

    def answer(code: str, timm_folder: Path | None) -> tuple[str, np.ndarray]:
        env = os.environ | ({"PYTHONPATH": str(timm_folder)} if timm_folder else {})
        command = [sys.executable, "-W", "ignore", "-c", first + code + last]
        told = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True).stdout
        version, _, values = told.strip().partition(" ")
        return version, np.array(json.loads(values))

    (_, expected), (version, found) = answer(ask, None), answer(whole, folder)
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)
    if tuple(map(int, version.split("."))) >= (1, 0, 16):
        np.testing.assert_allclose(answer(ask, folder)[1], expected, atol=1e-4, rtol=1e-4)


def run_of(exported: tuple[Path, Path]) -> StudentFacts:
    return StudentFacts.model_validate_json((exported[1] / "run.json").read_bytes())


@pytest.mark.parametrize(
    ("teacher", "note"),
    [
        ("hf-hub:MahmoodLab/UNI", UNI_LICENCE),
        ("hf-hub:MahmoodLab/UNI2-h", UNI_LICENCE),
        ("uni", UNI_LICENCE),
        ("unireplknet_t", OTHER_LICENCE.format(teacher="unireplknet_t")),
        ("demo", DEMO_LICENCE),
    ],
)
def test_licence_follows_the_teacher(teacher: str, note: str) -> None:
    assert licence_note(teacher) == note


def test_the_card_is_filled_in_from_the_run(exported: tuple[Path, Path]) -> None:
    card, facts = (exported[0] / "README.md").read_text(), run_of(exported)
    assert card == model_card(facts)
    assert f"{facts.train_tiles} tiles of 3 slides" in card and "cls x 1, patch x 1" in card
    for fact in (
        "square, 32 x 32 px, slides cut at 0.5 um a pixel",
        "2 cached view(s) of each |",
        "(embeddings by cosine), on targets standardised by channel |",
        "| adapter | attention, for the patch tokens |",
        "warm-up 0.1 of the steps, then cosine",
        "gradient clipped at 1; moving average of the weights, decay 0.998",
        "batch norm by the batch, measured again with the final weights",
    ):
        assert fact in card, fact


def test_the_card_says_what_is_not_as_by_default(exported: tuple[Path, Path]) -> None:
    facts = run_of(exported)
    other = {"standardise": "phi-s", "ema_decay": 0, "warmup_fraction": 0.25, "clip_norm": 3, "train_fraction": 0.3}
    params = {**facts.student, **other, "freeze_batch_norm": True}
    card = model_card(facts.model_copy(update={"student": params, "adapter": None}))
    for fact in (
        "2 cached view(s) of each, 0.3 of each slide's |",
        "standardised by PHI-S |",
        "| adapter | none: no patch tokens |",
        "warm-up 0.25 of the steps",
        "gradient clipped at 3; last weights; batch norm measured before training and frozen |",
    ):
        assert fact in card, fact
