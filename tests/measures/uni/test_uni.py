"""UNI's protocol against its recipe written down plainly here, with torch and scikit-learn alone and none of ours.

The recipe is Chen et al.'s code (github.com/mahmoodlab/UNI, uni/downstream/eval_patch_features), in float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from made.labelled import labelled
from numpy.typing import NDArray
from PIL import Image
from scipy.optimize import minimize
from sklearn.metrics import balanced_accuracy_score, classification_report, f1_score, roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

from pipeline.base.intervals import Units
from pipeline.measures.probes.probes import Labelled
from pipeline.measures.uni.linear import fit_head
from pipeline.measures.uni.probes import auroc, uni_probe, weighted_f1
from pipeline.measures.uni.simpleshot import SHOTS, draw, episode_answers, scores, uni_few_shot

CRC = Path(__file__).parents[3].parent / "shared" / "data" / "crc_tiles"


def nothing(n: float = 1, note: str = "") -> None: ...


class Parts(NamedTuple):
    """Train and held-out features (N, D) and classes 0 … K - 1 (N,)."""

    train_ND: NDArray[np.float64]
    class_N: NDArray[np.int64]
    held_ND: NDArray[np.float64]
    truth_N: NDArray[np.int64]


def made(classes: int, width: int = 24, n: int = 150) -> Parts:
    """Overlapping classes in channels of very unequal spread, far from zero, as embeddings are."""
    random = np.random.default_rng(classes)
    centres, spread = random.normal(size=(classes, width)), 10 ** random.uniform(-2, 1, width)
    truth = [np.concatenate([np.arange(classes), random.integers(classes, size=size)]) for size in (n, n // 2)]
    x = [(3 + centres[t] * 0.6 + random.normal(size=(len(t), width))) * spread for t in truth]
    return Parts(x[0], truth[0], x[1], truth[1])


def real() -> Parts:
    """Colour and texture of real tiles: 32 x 32 grey levels' spectrum beside the means of the channels."""
    if not CRC.is_dir():
        pytest.skip(f"no real tiles in {CRC}")
    parts = []
    for split, each in (("train", 40), ("test", 20)):
        x, truth = [], []
        for k, folder in enumerate(sorted((CRC / split).iterdir())):
            for path in sorted(folder.glob("*.jpg"))[:each]:
                rgb_HWC = np.asarray(Image.open(path).convert("RGB").resize((32, 32)), np.float64)
                strength = np.abs(np.fft.rfft2(rgb_HWC.mean(axis=2)))[:4, :4].ravel()
                x.append([*rgb_HWC.mean(axis=(0, 1)), *rgb_HWC.std(axis=(0, 1)), *np.log1p(strength)])
                truth.append(k)
        parts += [np.array(x), np.array(truth)]
    return Parts(*parts)


CASES = {"two classes": lambda: made(2), "five classes": lambda: made(5), "real tiles": real}


@pytest.fixture(params=CASES, scope="module")
def parts(request: pytest.FixtureRequest) -> Parts:
    return CASES[request.param]()


def metrics(truth_N: NDArray[np.int64], found_N: NDArray[np.int64]) -> dict[str, float]:
    """As metrics.py has them."""
    report = classification_report(truth_N, found_N, output_dict=True, zero_division=0)
    return {
        "balanced": balanced_accuracy_score(truth_N, found_N),
        "weighted_f1": report["weighted avg"]["f1-score"],
        "plain": float((truth_N == found_N).mean()),
    }


def recipe_linear(parts: Parts) -> torch.nn.Linear:
    """logistic_regression.py: the cost is D K / 100, the penalty the norm itself, everything from zero."""
    x, y = torch.tensor(parts.train_ND), torch.tensor(parts.class_N)
    classes = len(torch.unique(y))
    cost = x.shape[1] * classes / 100
    model = torch.nn.Linear(x.shape[1], classes, dtype=torch.float64)
    model.weight.data.fill_(0.0)
    model.bias.data.fill_(0.0)
    optimiser = torch.optim.LBFGS(model.parameters(), line_search_fn="strong_wolfe", max_iter=1000)

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = torch.nn.CrossEntropyLoss()(model(x), y) + (1.0 / cost) * 0.5 * model.weight.norm(p=2)
        loss.backward()
        return loss

    optimiser.step(closure)
    return model


def recipe_unit(parts: Parts) -> tuple[torch.Tensor, torch.Tensor]:
    """fewshot.py: centred by the train mean, then of length one."""
    source, query = torch.tensor(parts.train_ND), torch.tensor(parts.held_ND)
    mean = source.mean(dim=0, keepdim=True)
    return tuple(torch.nn.functional.normalize(x - mean, dim=-1, p=2) for x in (source, query))


def recipe_episode(parts: Parts, drawn_KS: NDArray[np.int64]) -> NDArray[np.int64]:
    """eval_fewshot of fewshot.py: one episode with these shots."""
    source, query = torch.tensor(parts.train_ND)[drawn_KS.ravel()], torch.tensor(parts.held_ND)
    mean = source.mean(dim=0, keepdim=True)
    source, query = (torch.nn.functional.normalize(x - mean, dim=-1, p=2) for x in (source, query))
    prototypes = source.view(len(drawn_KS), drawn_KS.shape[1], -1).mean(dim=1)
    return (query[:, None] - prototypes[None]).norm(dim=-1, p=2).argmin(dim=1).numpy()


def as_labelled(parts: Parts) -> tuple[Labelled, Labelled]:
    """The teacher has the features; the others the same in float32."""
    found = []
    for x_ND, class_N in ((parts.train_ND, parts.class_N), (parts.held_ND, parts.truth_N)):
        features: Mapping[str, NDArray[np.float64]] = dict.fromkeys(("teacher", "student", "untrained"), x_ND)
        units = Units([f"s{i % 10}" for i in range(len(x_ND))], "slide")
        found.append(Labelled([f"class {k}" for k in class_N], units, features))
    return found[0], found[1]


@pytest.fixture(scope="module")
def by_recipe(parts: Parts) -> NDArray[np.float64]:
    """What the recipe's linear probe answers (N, K)."""
    with torch.no_grad():
        probability_NK: NDArray[np.float64] = recipe_linear(parts)(torch.tensor(parts.held_ND)).softmax(dim=-1).numpy()
    return probability_NK


def test_every_probe_is_the_recipes(parts: Parts, by_recipe: NDArray[np.float64]):
    found = uni_probe(*as_labelled(parts), 100, 0, nothing)
    source, query = recipe_unit(parts)
    classes = len(np.unique(parts.class_N))
    prototypes = torch.stack([source[torch.tensor(parts.class_N) == k].mean(dim=0) for k in range(classes)])
    expected = {
        "linear": by_recipe.argmax(axis=1),
        "knn": KNeighborsClassifier(n_neighbors=20).fit(source, parts.class_N).predict(query),
        "simpleshot": (query[:, None] - prototypes[None]).norm(dim=-1, p=2).argmin(dim=1).numpy(),
    }
    for kind, answer_N in expected.items():
        theirs, ours = metrics(parts.truth_N, answer_N), found.by_kind()[kind].teacher
        assert ours.balanced.value == pytest.approx(theirs["balanced"], rel=1e-5)
        assert ours.plain.value == pytest.approx(theirs["plain"], rel=1e-5)
        assert found.scores[kind]["teacher"].weighted_f1.value == pytest.approx(theirs["weighted_f1"], rel=1e-5)
    one = (by_recipe[:, 1], {}) if classes == 2 else (by_recipe, {"multi_class": "ovo", "average": "macro"})
    area = roc_auc_score(parts.truth_N, one[0], **one[1])
    assert found.scores["linear"]["teacher"].auroc.value == pytest.approx(area, rel=1e-5)
    assert found.scores["knn"]["teacher"].auroc is None
    assert 0.4 < found.linear.teacher.balanced.value < 1, "a case that anything solves tells no recipes apart"


@pytest.mark.parametrize("decimals", [1, 9], ids=["ties", "no ties"])
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_areas_and_f1_are_scikit_learns(classes: int, decimals: int):
    """Where classes are missing among the held-out tiles, or never answered, too."""
    random = np.random.default_rng(classes)
    how = {} if classes == 2 else {"multi_class": "ovo", "average": "macro", "labels": np.arange(classes)}
    for n in (4, 9, 40):
        truth_N, found_N = np.array([0, 1, *random.integers(classes, size=n)]), random.integers(classes, size=n + 2)
        probability_NK = np.round(random.dirichlet(np.ones(classes), n + 2), decimals)
        probability_NK /= probability_NK.sum(axis=1, keepdims=True)
        theirs = roc_auc_score(truth_N, probability_NK[:, 1] if classes == 2 else probability_NK, **how)
        assert auroc(truth_N, probability_NK) == pytest.approx(theirs, abs=1e-12)
        f1 = f1_score(truth_N, found_N, average="weighted", zero_division=0)
        assert weighted_f1(truth_N, found_N) == pytest.approx(f1, abs=1e-12)


def test_the_linear_probe_is_the_recipes_to_rounding(parts: Parts, by_recipe: NDArray[np.float64]):
    head = fit_head(parts.train_ND, parts.class_N, parts.class_N.max() + 1)
    np.testing.assert_allclose(head.probabilities(parts.held_ND), by_recipe, atol=1e-4)


def test_the_linear_probe_is_at_the_optimum_of_the_unsquared_penalty():
    """By another search altogether, over a smoothed norm, from another start."""
    parts = made(3, width=6)
    n, width, classes = len(parts.train_ND), 6, 3
    cost = width * classes / 100

    def loss(flat: NDArray[np.float64]) -> float:
        weight_KD, bias_K = flat[:-classes].reshape(classes, width), flat[-classes:]
        logit_NK = parts.train_ND @ weight_KD.T + bias_K
        entropy = np.logaddexp.reduce(logit_NK, axis=1) - logit_NK[np.arange(n), parts.class_N]
        return float(entropy.mean() + np.sqrt(np.square(weight_KD).sum() + 1e-16) / (2 * cost))

    start = np.random.default_rng(0).normal(size=classes * width + classes)
    best = minimize(loss, start, method="L-BFGS-B", options={"maxfun": 10**6, "maxiter": 10**4, "ftol": 1e-15})
    head = fit_head(parts.train_ND, parts.class_N, classes)
    ours = loss(np.concatenate([head.weight_KD.numpy().ravel(), head.bias_K.numpy()]))
    assert ours == pytest.approx(best.fun, abs=1e-5) and ours <= best.fun + 1e-6


@pytest.mark.parametrize("shots", [1, 4, 16])
def test_an_episode_is_the_recipes(parts: Parts, shots: int):
    drawn_EKS = draw(parts.class_N, shots, 12, seed=3)
    expected_EN = np.stack([recipe_episode(parts, drawn_KS) for drawn_KS in drawn_EKS])
    found_EN = episode_answers(parts.train_ND, parts.held_ND, drawn_EKS)
    np.testing.assert_array_equal(found_EN, expected_EN)
    balanced_E, f1_E = scores(found_EN, parts.truth_N, drawn_EKS.shape[1])
    theirs = [metrics(parts.truth_N, found_N) for found_N in expected_EN]
    np.testing.assert_allclose(balanced_E, [one["balanced"] for one in theirs], atol=1e-12)
    np.testing.assert_allclose(f1_E, [one["weighted_f1"] for one in theirs], atol=1e-12)


def test_an_episode_draws_its_shots_of_each_class_once():
    class_N = np.array([0] * 5 + [1] * 9 + [2] * 4)
    drawn_EKS = draw(class_N, 4, 300, seed=0)
    assert (class_N[drawn_EKS] == np.arange(3)[:, None]).all()
    assert all(len(set(shots)) == 4 for episode in drawn_EKS.tolist() for shots in episode)
    # Every tile of class 0 in four fifths of the episodes.
    assert np.bincount(drawn_EKS[:, 0].ravel()) == pytest.approx([240] * 5, abs=45)


def test_quartiles_are_over_a_thousand_episodes_with_all_shots_that_classes_hold():
    train, held = labelled(90, 0, noise=6.0), labelled(40, 1, noise=6.0)
    found = uni_few_shot(train, held, 100, 0, nothing)
    fewest = min(train.labels.count(name) for name in set(train.labels))
    assert list(found) == [shots for shots in SHOTS if shots <= fewest] and len(found) > 2
    for one in found.values():
        assert one.episodes == 1000
        quartiles = one.balanced["teacher"]
        assert quartiles.low <= quartiles.median <= quartiles.high
    assert found[1].balanced["teacher"].low < found[1].balanced["teacher"].high
    assert found[4].balanced["teacher"].median > found[1].balanced["teacher"].median


def test_a_class_that_train_has_not_is_left_out_of_every_probe():
    train, held = labelled(90, 0), labelled(40, 1)
    strange = Labelled(["necrosis", *held.labels[1:]], held.units, held.features)
    found = uni_probe(train, strange, 100, 0, nothing)
    assert found.dropped_classes == ("necrosis",) and found.n == len(held.labels) - 1
