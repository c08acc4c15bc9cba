from __future__ import annotations

import pytest
import torch
from timm.optim import create_optimizer_v2

from pipeline.base.errors import TrainingError
from pipeline.student.model import Student, build

MODELS = [
    pytest.param("efficientvit_b0", 64, [(4, 4), (2, 2)], id="efficientvit"),
    pytest.param("test_resnet", 96, [(6, 6), (3, 3)], id="cnn"),
    pytest.param("test_vit", 64, [(4, 4)], id="vit, one resolution, side fixed at creation"),
]


def tiles(side: int, n: int = 2) -> torch.Tensor:
    return torch.randint(0, 256, (n, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("name", "side", "grids"), MODELS)
def test_one_pass_gives_timms_answer_and_the_coarsest_maps(name: str, side: int, grids: list[tuple[int, int]]) -> None:
    student = Student(name, 24, side).eval()
    image_NHWC = tiles(side)
    image_NCHW = (image_NHWC.permute(0, 3, 1, 2) / 255 - student.mean) / student.std
    with torch.no_grad():
        embedding_ND, maps = student(image_NHWC)
        assert torch.allclose(embedding_ND, student.backbone(image_NCHW), atol=1e-5)
    assert embedding_ND.shape == (2, 24)
    assert [tuple(m.shape[-2:]) for m in maps] == grids == [stage.grid for stage in student.stages]
    assert [m.shape[1] for m in maps] == [stage.channels for stage in student.stages]


@pytest.mark.parametrize("name", ["efficientvit_b0", "test_vit"])
def test_an_expanded_head_is_folded_into_the_layer_that_answers_the_same(name: str) -> None:
    student, image_NHWC = Student(name, 24, 64), tiles(64, n=8)
    names = set(student.state_dict())
    student.expand_head(hidden=40, seed=0)
    assert set(student.state_dict()) != names
    with torch.no_grad():
        for _ in range(3):
            student.train()(image_NHWC)  # Its batch norm has seen something.
        answered_ND, _ = student.eval()(image_NHWC)
        student.fold_head()
        folded_ND, _ = student(image_NHWC)
    assert set(student.state_dict()) == names and student.last.out_features == 24
    torch.testing.assert_close(folded_ND, answered_ND, atol=1e-5, rtol=1e-5)


def test_weights_come_from_the_seed_and_leave_torchs_state_alone() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    made = [
        build(model="test_resnet", width=8, input_px=64, adapter="attention", grid=(4, 4), seed=seed)[0].state_dict()
        for seed in (1, 1, 2)
    ]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])
    assert not torch.equal(made[0]["student.backbone.fc.weight"], made[2]["student.backbone.fc.weight"])


def test_embeddings_norms_and_biases_are_not_decayed() -> None:
    distiller, _ = build(model="test_vit", width=8, input_px=64, adapter="attention", grid=(4, 4), seed=0)
    optimizer = create_optimizer_v2(distiller, opt="adamw", lr=1.0, weight_decay=0.05)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in distiller.named_parameters():
        embedding = name in {"adapter.query", "adapter.level", "student.backbone.pos_embed"} or "_token" in name
        assert decay[id(parameter)] == (0 if embedding or parameter.ndim == 1 else 0.05), name


@pytest.mark.parametrize("side", [64])
def test_efficientvits_attention_stays_fp32_under_autocast(side: int) -> None:
    student = Student("efficientvit_b0", 24, side).eval()
    attention = next(m for m in student.modules() if type(m).__name__ == "LiteMLA")
    seen = []
    inner = attention._attn
    attention._attn = lambda q, k, v: seen.append(torch.is_autocast_enabled("cpu")) or inner(q, k, v)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(student(tiles(side))[0]).all()
    assert seen == [False]


@pytest.mark.parametrize(
    ("name", "side", "words"),
    [
        ("efficientvit_b00", 64, r"(?s)efficientvit_b00: timm has no such model.*efficientvit_b0"),
        ("repvit_m0_9", 64, "RepVitClassifier, not a linear layer"),
        ("test_vit", 50, r"(?s)test_vit: it does not answer for 50 px: .*student.input_px"),
        ("mvitv2_tiny", 112, r"it does not answer for 112 px: index 5 is out of bounds"),
        ("vit_tiny_r_s16_p8_224", 112, r"(?s)it does not answer for 112 px: AssertionError.*student.input_px"),
    ],
)
def test_what_cannot_be_a_student_says_why(name: str, side: int, words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        Student(name, 8, side)


def test_arguments_reach_timm_and_a_wrong_one_is_named() -> None:
    narrow = Student("efficientvit_b0", 8, 64, {"head_widths": [64, 32]})
    assert narrow.last.in_features == 32
    with pytest.raises(TrainingError, match=r"(?s)student.model_kwargs of efficientvit_b0.*head_width"):
        Student("efficientvit_b0", 8, 64, {"head_width": 3})


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_a_student_that_gives_no_vector_a_tile_is_refused_before_it_trains(name: str) -> None:
    with pytest.raises(TrainingError, match=r"student\.model_kwargs"):
        Student(name, 8, 64, {"global_pool": ""})
