import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nasperc.ops.resize import resize_to, resize_to_larger, upsample_aligned


def slow_bilinear(x, size):
    """Half-pixel centres, edges repeated: output pixel i lies at (i + 0.5) * H / H' - 0.5 of the input."""
    height, width = x.shape[-2:]
    out = torch.empty(*x.shape[:-2], *size, dtype=x.dtype)
    for i in range(size[0]):
        for j in range(size[1]):
            y = max((i + 0.5) * height / size[0] - 0.5, 0)
            z = max((j + 0.5) * width / size[1] - 0.5, 0)
            top, left = int(y), int(z)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            fy, fx = y - top, z - left
            upper = x[..., top, left] * (1 - fx) + x[..., top, right] * fx
            lower = x[..., bottom, left] * (1 - fx) + x[..., bottom, right] * fx
            out[..., i, j] = upper * (1 - fy) + lower * fy
    return out


def test_resizes_up_and_down_like_the_loop():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    for size in ((10, 12), (3, 2), (7, 6), (1, 1)):
        torch.testing.assert_close(resize_to(x, size), slow_bilinear(x, size))


def test_a_map_of_the_right_size_comes_back_itself():
    x = torch.randn(1, 2, 3, 4)
    assert resize_to(x, (3, 4)) is x


def test_the_smaller_of_two_grows_whichever_comes_first():
    small, large = torch.randn(1, 2, 3, 4), torch.randn(1, 5, 6, 8)
    a, b = resize_to_larger(small, large)
    assert a.shape == (1, 2, 6, 8)
    assert b is large
    a, b = resize_to_larger(large, small)
    assert a is large
    assert b.shape == (1, 2, 6, 8)
    a, b = resize_to_larger(large, large)
    assert a is large
    assert b is large


def slow_aligned(x, size):
    """Output pixel i lies at i / 2 of the input; the last row and column go on for ever."""
    height, width = x.shape[-2:]
    out = torch.empty(*x.shape[:-2], *size, dtype=x.dtype)
    for i in range(size[0]):
        for j in range(size[1]):
            rows = {i // 2, min((i + 1) // 2, height - 1)}
            columns = {j // 2, min((j + 1) // 2, width - 1)}
            corners = [x[..., row, column] for row in rows for column in columns]
            out[..., i, j] = sum(corners) / len(corners)
    return out


@pytest.mark.parametrize("size", [(10, 12), (9, 12), (10, 11), (9, 11), (3, 1)])
def test_aligned_upsampling_is_what_the_loop_gives(size):
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    torch.testing.assert_close(upsample_aligned(x, size), slow_aligned(x, size))


@given(sides=st.tuples(*[st.integers(1, 40)] * 2), times=st.integers(1, 4), channels_last=st.booleans())
def test_aligned_upsampling_meets_strided_sampling_at_its_positions(sides, times, channels_last):
    """What a chain of convolutions of stride 2 samples is there again after as many upsamplings, at any size."""
    sizes = [sides]
    for _ in range(times):
        sizes.append(tuple((side + 1) // 2 for side in sizes[-1]))
    image = torch.randn(1, 2, *sides)
    sample = nn.Conv2d(2, 2, 3, stride=2, padding=1, groups=2, bias=False)
    # The middle of the kernel alone: what it looks at.
    nn.init.zeros_(sample.weight)
    sample.weight.data[:, :, 1, 1] = 1
    x = image
    with torch.no_grad():
        for _ in range(times):
            x = sample(x)
    assert torch.equal(x, image[..., :: 2**times, :: 2**times])
    up = x.contiguous(memory_format=torch.channels_last) if channels_last else x
    for size in reversed(sizes[:-1]):
        up = upsample_aligned(up, size)
    assert up.shape == image.shape
    assert torch.equal(up[..., :: 2**times, :: 2**times], x)


def test_aligned_upsampling_of_a_ramp_goes_on_between_its_cells():
    ramp = torch.arange(4.0)[None, None, :, None].expand(1, 1, 4, 3)
    assert upsample_aligned(ramp, (8, 6))[0, 0, :, 0].tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3]


def test_gradients_of_aligned_upsampling():
    x = torch.randn(1, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: upsample_aligned(x, (5, 4)), (x,))
