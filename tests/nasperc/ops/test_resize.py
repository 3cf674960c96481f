import torch

from nasperc.ops.resize import resize_to, resize_to_larger


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
