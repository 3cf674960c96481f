import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nasperc.evaluation.miou import trimap

maps = hnp.arrays(
    np.int64, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.sampled_from((0, 1, 2, 255))
)


def slow_trimap(target: np.ndarray, width: int) -> np.ndarray:
    height, columns = target.shape
    band = np.zeros(target.shape, bool)
    for y in range(height):
        for x in range(columns):
            for other_y in range(max(0, y - width), min(height, y + width + 1)):
                for other_x in range(max(0, x - width), min(columns, x + width + 1)):
                    pair = {int(target[y, x]), int(target[other_y, other_x])}
                    band[y, x] |= len(pair) == 2 and 255 not in pair
    return band


@settings(deadline=None, max_examples=60)
@given(maps, st.integers(1, 4))
def test_band_is_that_of_the_pixel_loop(target, width):
    assert np.array_equal(trimap(torch.from_numpy(target), width).numpy(), slow_trimap(target, width))


def test_band_has_the_width_on_either_side():
    target = torch.zeros(1, 12, dtype=torch.int64)
    target[:, 6:] = 7
    assert trimap(target).int().tolist() == [[0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0]]
    # A strip of ignored pixels is no class of its own, but it does not hide what lies behind it.
    target[:, 5:7] = 255
    assert trimap(target).int().tolist() == [[0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0]]
    target[:, 7:] = 255
    assert not trimap(target).any()


def test_batches_are_treated_image_by_image():
    maps = torch.randint(0, 3, (2, 3, 8, 10), generator=torch.Generator().manual_seed(0))
    together = trimap(maps, 1)
    assert together.shape == maps.shape
    assert torch.equal(together[1, 2], trimap(maps[1, 2], 1))
