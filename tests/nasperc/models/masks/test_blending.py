import pytest
import torch
from torch.nn import functional as F

from nasperc.models.masks.blending import logit_of_product, merge


def test_merging_is_linear_in_regions_and_in_scores() -> None:
    one, other, scores = torch.randn(3, 2, 4, 5, 5).unbind()
    torch.testing.assert_close(merge(one + other, scores), merge(one, scores) + merge(other, scores))
    torch.testing.assert_close(merge(one, 2 * scores), 2 * merge(one, scores))


def test_one_basis_is_trained_by_the_cross_entropy_of_that_product() -> None:
    a, b = torch.randn(2, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).mul(4).unbind()
    target = (torch.arange(50) % 2).double()
    plain = F.binary_cross_entropy(a.sigmoid() * b.sigmoid(), target)
    torch.testing.assert_close(F.binary_cross_entropy_with_logits(logit_of_product(a, b), target), plain)


@pytest.mark.parametrize(("a", "b"), [(200.0, 200.0), (-200.0, 3.0), (-200.0, -200.0), (0.0, 200.0)])
def test_the_logit_of_a_product_stays_finite_and_so_do_its_gradients(a: float, b: float) -> None:
    values = torch.tensor([a, b], requires_grad=True)
    logit = logit_of_product(values[0], values[1])
    logit.backward()
    # Where both are large, the smaller one decides; where both are small, they add up.
    assert logit.isfinite()
    assert logit.item() == pytest.approx(min(a, b, a + b), abs=1)
    assert values.grad is not None
    assert values.grad.isfinite().all()
