import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nasperc.evaluation.miou import SegmentationEvaluation, confusion_matrix, segmentation_metrics, trimap

properties = settings(deadline=None, max_examples=40)
CLASSES = 4


@st.composite
def images(draw):
    """Predictions and targets (N, H, W) with blobs; not every class need occur."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    shape = (draw(st.integers(1, 3)), draw(st.integers(2, 7)), draw(st.integers(2, 7)))
    shown = rng.choice(CLASSES, draw(st.integers(1, CLASSES)), replace=False)
    target = rng.choice(shown, shape)
    target[rng.random(shape) < draw(st.floats(0, 0.5))] = 255
    prediction = np.where(
        rng.random(shape) < 0.6, np.where(target == 255, 0, target), rng.integers(0, CLASSES, shape)
    )
    return torch.from_numpy(prediction), torch.from_numpy(target)


def slow_metrics(prediction: np.ndarray, target: np.ndarray, counted: np.ndarray) -> dict[str, float]:
    """One pixel after the other, one class after the other."""
    both, truth, found = ([0] * CLASSES for _ in range(3))
    for p, t, c in zip(prediction.flat, target.flat, counted.flat, strict=True):
        if t != 255 and c:
            truth[t] += 1
            found[p] += 1
            both[t] += p == t
    shown = [k for k in range(CLASSES) if truth[k]]
    if not shown:
        return dict.fromkeys(("miou", "macc", "gacc", "fwiou"), math.nan)
    iou = {k: both[k] / (truth[k] + found[k] - both[k]) for k in shown}
    return {
        "miou": sum(iou.values()) / len(shown),
        "macc": sum(both[k] / truth[k] for k in shown) / len(shown),
        "gacc": sum(both) / sum(truth),
        "fwiou": sum(iou[k] * truth[k] for k in shown) / sum(truth),
    }


@properties
@given(images())
def test_metrics_are_those_of_the_pixel_loop(pair):
    prediction, target = pair
    evaluation = SegmentationEvaluation(CLASSES, trimap_width=1)
    evaluation.add(prediction, target)
    metrics = evaluation.metrics()
    arrays = prediction.numpy(), target.numpy()
    expected = slow_metrics(*arrays, np.ones(target.shape, bool))
    expected["tiou"] = slow_metrics(*arrays, trimap(target, 1).numpy())["miou"]
    for name, value in expected.items():
        assert getattr(metrics, name) == pytest.approx(value, nan_ok=True), name
    assert metrics.reward == pytest.approx(
        (expected["miou"] * expected["macc"] * expected["fwiou"]) ** (1 / 3), nan_ok=True
    )


@properties
@given(images(), st.integers(0, 3))
def test_counts_are_integers_that_add_up_in_any_portions(pair, seed):
    prediction, target = pair
    together, apart = SegmentationEvaluation(CLASSES), SegmentationEvaluation(CLASSES)
    together.add(prediction, target)
    for k in np.random.default_rng(seed).permutation(len(target)).tolist():
        apart.add(prediction[k], target[k], position=k)
    assert together.confusion().dtype == torch.int64
    assert torch.equal(together.confusion(), apart.confusion())
    assert int(together.confusion()[0].sum()) == int((target != 255).sum())
    assert apart.positions == tuple(range(len(target)))
    for k in apart.positions:
        assert torch.equal(apart.confusion(k)[0], confusion_matrix(prediction[k], target[k], CLASSES))


def test_metrics_by_hand():
    # Ten pixels of class 0, of which eight are right, six of class 1, all right; class 2 is predicted only.
    metrics = segmentation_metrics(torch.tensor([[8, 1, 1], [0, 6, 0], [0, 0, 0]]))
    assert metrics.iou == pytest.approx((8 / 10, 6 / 7, math.nan), nan_ok=True)
    assert metrics.acc == pytest.approx((8 / 10, 1.0, math.nan), nan_ok=True)
    assert metrics.pixels == (10, 6, 0)
    assert metrics.miou == pytest.approx((8 / 10 + 6 / 7) / 2)
    assert metrics.macc == pytest.approx(0.9)
    assert metrics.gacc == pytest.approx(14 / 16)
    assert metrics.fwiou == pytest.approx((10 * 8 / 10 + 6 * 6 / 7) / 16)
    assert math.isnan(metrics.tiou)
    assert metrics.means() == {name: getattr(metrics, name) for name in ("miou", "macc", "gacc", "fwiou")}
    assert metrics.reward == pytest.approx((29 / 35 * 0.9 * (8 + 36 / 7) / 16) ** (1 / 3))


def test_one_matrix_and_not_the_mean_of_images():
    """A class right in a large image and wrong in a small one: the mean of images would be 0.5."""
    evaluation = SegmentationEvaluation(2)
    evaluation.add(torch.zeros(1, 30, 33).long(), torch.zeros(1, 30, 33).long(), position=1)
    evaluation.add(torch.ones(1, 1, 10).long(), torch.zeros(1, 1, 10).long(), position=2)
    assert evaluation.metrics().miou == pytest.approx(0.99)
    assert evaluation.metrics(1).miou == 1.0
    assert evaluation.metrics(2).miou == 0.0
    assert evaluation.metrics(2).reward == 0.0


def test_boundaries_count_in_tiou_alone():
    target = torch.zeros(20, 40, dtype=torch.int64)
    target[:, 20:] = 1
    prediction = target.clone()
    prediction[:, 20] = 0
    evaluation = SegmentationEvaluation(2)
    evaluation.add(prediction, target)
    metrics = evaluation.metrics()
    assert metrics.iou == pytest.approx((20 / 21, 19 / 20))
    # Of three columns on either side one is wrong.
    assert metrics.tiou == pytest.approx((3 / 4 + 2 / 3) / 2)
    assert metrics.tiou == pytest.approx(metrics.means()["tiou"])
    without = SegmentationEvaluation(2, trimap_width=None)
    without.add(prediction, target)
    assert math.isnan(without.metrics().tiou)
    assert without.metrics().miou == metrics.miou


def test_nothing_counted_is_undefined():
    for evaluation in (SegmentationEvaluation(3), SegmentationEvaluation(3)):
        assert math.isnan(evaluation.metrics().reward)
        evaluation.add(torch.zeros(2, 2).long(), torch.full((2, 2), 255))
        assert math.isnan(evaluation.metrics().miou)
        assert evaluation.metrics().means() == {}


@pytest.mark.parametrize(
    ("prediction", "target", "message"),
    [
        ([[0, 3]], [[0, 1]], r"in 0\.\.2"),
        ([[0, -1]], [[0, 1]], r"in 0\.\.2"),
        ([[0, 1]], [[0, 3]], r"in 0\.\.2"),
        ([[0, 1]], [[0], [1]], r"prediction of \(1, 2\) for a target of \(2, 1\)"),
    ],
)
def test_labels_out_of_range(prediction, target, message):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(torch.tensor(prediction), torch.tensor(target), 3)


def test_predictions_of_ignored_pixels_do_not_matter():
    counts = confusion_matrix(torch.tensor([7, 1]), torch.tensor([255, 1]), 2)
    assert counts.tolist() == [[0, 0], [0, 1]]
