import pytest
import torch

from pipeline.base.store import Ref, Store
from pipeline.demo.regions import CLASSES
from pipeline.params.tokens import TokensParams
from pipeline.teachers.demo import INPUT_PX, SLIDES, batches, build, read_slide
from pipeline.teachers.loading import load_teacher
from pipeline.teachers.weights import weights_digest

DEMO_PX = 640


@pytest.fixture(scope="module")
def demo_store(tmp_path_factory) -> Store:
    return Store(tmp_path_factory.mktemp("demo"))


def test_it_is_trained_once_and_found_again(demo_store):
    params = TokensParams(demo_teacher_steps=2)
    first = load_teacher(params, demo_store, DEMO_PX)
    assert (first.input_px, first.grid, first.preparation.mean) == (INPUT_PX, (8, 8), (0.5, 0.5, 0.5))
    assert first.weights_digest != weights_digest(build())
    (name,) = first.uses
    made_at = demo_store.path(Ref.parse(name)).stat().st_mtime_ns
    again = load_teacher(params, demo_store, DEMO_PX)
    assert again.weights_digest == first.weights_digest
    assert demo_store.path(Ref.parse(name)).stat().st_mtime_ns == made_at


def test_training_again_gives_the_same_weights(demo_store):
    params = TokensParams(demo_teacher_steps=2)
    first = load_teacher(params, demo_store, DEMO_PX)
    demo_store.delete(Ref.parse(first.uses[0]))
    torch.randn(5)
    assert load_teacher(params, demo_store, DEMO_PX).weights_digest == first.weights_digest


def test_more_steps_are_another_teacher(demo_store):
    teachers = [load_teacher(TokensParams(demo_teacher_steps=steps), demo_store, DEMO_PX) for steps in (1, 2)]
    assert teachers[0].uses != teachers[1].uses


def test_a_batch_holds_images_in_range_and_shares_that_add_up(demo_store):
    slides = [read_slide(number, DEMO_PX, demo_store) for number in SLIDES]
    for image_NCHW, share_NKhw in batches(slides, 3):
        assert image_NCHW.shape[1:] == (3, INPUT_PX, INPUT_PX) and image_NCHW.abs().max() <= 1.01
        assert share_NKhw.shape[1:] == (len(CLASSES), 8, 8)
        torch.testing.assert_close(share_NKhw.sum(1), torch.ones_like(share_NKhw[:, 0]))
