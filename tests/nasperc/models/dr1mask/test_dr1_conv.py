import pytest
import torch
from torch import Tensor, nn

from nasperc.errors import InputError
from nasperc.models.dr1mask.dr1_conv import Context, DR1Conv, dr1_conv

WIDTH = 8


def maps(seed: int, width: int = WIDTH) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, width, 4, 5, generator=generator, dtype=torch.float64)


def convolution(*, kernel: int = 3, bias: bool = False) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(WIDTH, WIDTH, kernel, padding=kernel // 2, bias=bias).double()


def slow(conv: nn.Conv2d, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """At each place the weights W * (a b^T), written out: a of the place that a tap reads, b of the one it writes."""
    n, width, rows, columns = x.shape
    side = conv.kernel_size[0]
    out = torch.zeros_like(x)
    for image in range(n):
        for row in range(rows):
            for column in range(columns):
                total = torch.zeros(width, dtype=x.dtype)
                for i in range(side):
                    for j in range(side):
                        y, z = row + i - side // 2, column + j - side // 2
                        if 0 <= y < rows and 0 <= z < columns:
                            # Equation 5.1; rows of W are outputs here, so b comes first.
                            mask = torch.outer(b[image, :, row, column], a[image, :, y, z])
                            total += (conv.weight[:, :, i, j] * mask) @ x[image, :, y, z]
                if conv.bias is not None:
                    total += conv.bias * b[image, :, row, column]
                out[image, :, row, column] = total
    return out


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kernel", [1, 3])
def test_it_has_weights_of_its_own_at_every_place(kernel: int, bias: bool) -> None:
    """Equations 5.1 to 5.4."""
    conv, x, a, b = convolution(kernel=kernel, bias=bias), maps(0), maps(1), maps(2)
    with torch.no_grad():
        torch.testing.assert_close(dr1_conv(conv, x, Context(a, b)), slow(conv, x, a, b))


@pytest.mark.parametrize(("with_a", "with_b"), [(False, False), (True, False), (False, True), (True, True)])
def test_a_factor_that_is_missing_is_one(with_a: bool, with_b: bool) -> None:
    conv, x, ones = convolution(), maps(0), torch.ones_like(maps(0))
    a, b = maps(1) if with_a else None, maps(2) if with_b else None
    whole = dr1_conv(conv, x, Context(ones if a is None else a, ones if b is None else b))
    assert torch.equal(dr1_conv(conv, x, Context(a, b)), whole)


def test_with_both_factors_one_it_is_the_convolution() -> None:
    conv, x, ones = convolution(), maps(0), torch.ones_like(maps(0))
    assert torch.equal(dr1_conv(conv, x, Context(ones, ones)), conv(x))


def test_gradients() -> None:
    conv = convolution()
    inputs = [each[:1, :, :2, :3].clone().requires_grad_() for each in (maps(0), maps(1), maps(2))]
    # The weight is the convolution's own, which is moved in its place.
    assert torch.autograd.gradcheck(
        lambda _, x, a, b: dr1_conv(conv, x, Context(a, b)), (conv.weight, *inputs), fast_mode=True
    )


def test_norm_and_activation_stand_behind_both_factors() -> None:
    layer, x, context = DR1Conv(WIDTH).double(), maps(0), Context(maps(1), maps(2))
    bare = dr1_conv(layer.conv, x, context)
    torch.testing.assert_close(layer(x, context), layer.norm(bare).relu())


def test_a_level_of_one_place_is_taken_in_training_and_alone() -> None:
    x = maps(0)[:1, :, :1, :1]
    assert DR1Conv(WIDTH).double()(x, Context(x, x)).isfinite().all()


def test_widths_that_the_norm_cannot_divide_are_refused() -> None:
    with pytest.raises(InputError, match=r"multiple of 8, but got 30 .*dr1mask\.width.*32"):
        DR1Conv(30)
