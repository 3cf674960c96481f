import pytest
import torch
from torch.nn import functional as F

from nasperc.ops.affine_sampling import affine_sample


def expected(x, theta):
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


@pytest.mark.parametrize("size", [(7, 9), (1, 5), (16, 4)])
@pytest.mark.parametrize("spread", [0.1, 3.0])
def test_it_is_grid_sample_with_its_gradients(size, spread):
    """The second spread sends most points far outside, some so far that they are moved back."""
    torch.manual_seed(0)
    x = torch.randn(3, 5, *size, dtype=torch.float64, requires_grad=True)
    theta = torch.eye(2, 3, dtype=torch.float64) + spread * torch.randn(3, 2, 3, dtype=torch.float64)
    theta.requires_grad_()
    ours, theirs = affine_sample(x, theta), expected(x, theta)
    torch.testing.assert_close(ours, theirs)
    upstream = torch.randn_like(ours)
    for one, other in zip(
        torch.autograd.grad(ours, (x, theta), upstream),
        torch.autograd.grad(theirs, (x, theta), upstream),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_the_identity_changes_nothing():
    x = torch.randn(2, 3, 6, 5)
    torch.testing.assert_close(affine_sample(x, torch.eye(2, 3).expand(2, 2, 3)), x)


def test_half_precision_places_the_points_in_full():
    x = torch.randn(1, 2, 4, 200)
    theta = torch.tensor([[[0.997, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    ours = affine_sample(x.bfloat16(), theta)
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours, expected(x.bfloat16().float(), theta).bfloat16())


def test_a_theta_that_is_not_finite_stays_in_the_table():
    x, theta = torch.randn(1, 2, 4, 4), torch.full((1, 2, 3), torch.nan)
    assert torch.isnan(affine_sample(x, theta)).all()
