import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nasperc.ops.losses import iou_loss, sigmoid_focal_loss


@given(
    st.floats(-15, 15),
    st.sampled_from([0.0, 1.0]),
    st.floats(0.05, 0.95),
    st.sampled_from([0.0, 0.5, 2.0]),
)
def test_focal_loss_is_its_formula(logit, target, alpha, gamma):
    p = 1 / (1 + math.exp(-logit))
    p_t, alpha_t = (p, alpha) if target else (1 - p, 1 - alpha)
    expected = -alpha_t * (1 - p_t) ** gamma * math.log(p_t)
    loss = sigmoid_focal_loss(
        torch.tensor(logit, dtype=torch.float64), torch.tensor(target, dtype=torch.float64), alpha, gamma
    )
    assert loss.item() == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_focal_loss_stays_finite_and_exact_where_sigmoid_saturates():
    logits = torch.tensor([-200.0, 200.0, -200.0, 200.0, 0.0], requires_grad=True)
    targets = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0])
    loss = sigmoid_focal_loss(logits, targets)
    assert loss.tolist() == pytest.approx([0.25 * 200, 0.75 * 200, 0, 0, 0.25 * 0.25 * math.log(2)])
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert gradient[:4].tolist() == pytest.approx([-0.25, 0.75, 0, 0])


def test_focal_loss_gradient():
    torch.manual_seed(0)
    logits = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    targets = (torch.rand(3, 4) > 0.5).double()
    assert torch.autograd.gradcheck(lambda x: sigmoid_focal_loss(x, targets), logits)


side = st.integers(0, 6)


@given(st.tuples(side, side, side, side), st.tuples(side, side, side, side))
def test_iou_losses_count_pixels(pred, target):
    def pixels(d):
        return {(x, y) for x in range(-d[0], d[2]) for y in range(-d[1], d[3])}

    inter = len(pixels(pred) & pixels(target))
    union = len(pixels(pred) | pixels(target))
    enclosing = len(pixels([max(p, t) for p, t in zip(pred, target, strict=True)]))
    iou = (inter + 1) / (union + 1)
    giou = iou - ((enclosing - union) / enclosing if enclosing else 0)
    a, b = torch.tensor(pred, dtype=torch.float64), torch.tensor(target, dtype=torch.float64)
    assert iou_loss(a, b, "iou").item() == pytest.approx(-math.log(iou))
    assert iou_loss(a, b, "giou").item() == pytest.approx(1 - giou)


@pytest.mark.parametrize("kind", ["iou", "giou"])
def test_iou_loss_gradient_and_shape(kind):
    torch.manual_seed(0)
    pred = (torch.rand(2, 3, 4, dtype=torch.float64) * 5 + 0.1).requires_grad_()
    target = torch.rand(2, 3, 4, dtype=torch.float64) * 5 + 0.1
    assert iou_loss(pred, target, kind).shape == (2, 3)
    assert torch.autograd.gradcheck(lambda p: iou_loss(p, target, kind), pred)
    assert iou_loss(target, target, kind).abs().max() < 1e-12
