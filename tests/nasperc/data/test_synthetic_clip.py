from itertools import pairwise

import numpy as np

from nasperc.data.synthetic_clip import PAN, draw_clip


def clip(objects, seed=0, frames=8, size=(64, 80)) -> tuple[np.ndarray, np.ndarray]:
    images, shown = zip(*draw_clip(frames, size, objects, np.random.default_rng(seed)), strict=True)
    return np.stack(images), np.stack(shown)


def test_frames():
    images, shown = clip(["disc", "star", "disc"])
    assert images.shape == (8, 64, 80, 3)
    assert images.dtype == np.uint8
    assert set(np.unique(shown)) <= {-2, -1, 0, 1, 2}
    again = clip(["disc", "star", "disc"])
    assert np.array_equal(images, again[0])
    assert np.array_equal(shown, again[1])


def inside(mask: np.ndarray) -> bool:
    return bool(mask.any()) and not any(edge.any() for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1]))


def test_objects_move_and_keep_their_colours():
    moved = []
    for seed in range(6):
        images, shown = clip(["square"], seed)
        for (image, mask), (after, later) in pairwise(zip(images, shown == 0, strict=True)):
            if inside(mask) and inside(later):
                moved.append(np.abs(np.argwhere(mask).mean(0) - np.argwhere(later).mean(0)).max())
                # The light flickers by 6 % at most; an object keeps its texture.
                np.testing.assert_allclose(image[mask].mean(0), after[later].mean(0), atol=22)
    assert len(moved) > 10
    assert 0.5 < np.mean(moved) < 0.2 * 64


def test_camera_pans_over_a_still_background():
    """Where nothing else is shown, a frame is the one before it, moved by a whole number of pixels."""
    images, shown = clip([], seed=1, frames=5)
    grey = images.astype(float).mean(-1)
    grey -= grey.mean(axis=(1, 2), keepdims=True)
    shifts = set()
    reach = 10
    inner = (slice(reach, -reach), slice(reach, -reach))
    for k in range(4):
        background = (shown[k] == -1)[inner]
        errors = {
            (dy, dx): np.abs(grey[k][inner] - np.roll(grey[k + 1], (dy, dx), (0, 1))[inner])[
                background
            ].mean()
            for dy in range(-reach, reach + 1)
            for dx in range(-reach, reach + 1)
        }
        best = min(errors, key=errors.get)
        # Noise, flicker and the bar remain.
        assert errors[best] < 8
        assert errors[best] < np.median(list(errors.values()))
        shifts.add(best)
    assert len(shifts) > 1
    assert max(abs(step) for shift in shifts for step in shift) <= np.ceil(PAN * 80) * 2 * np.pi / 16 + 1


def test_later_objects_hide_earlier_ones():
    hidden = 0
    for seed in range(10):
        alone, both = clip(["disc"], seed, frames=4)[1], clip(["disc", "square"], seed, frames=4)[1]
        # The same random numbers as far as the first object goes; the second one only takes pixels away.
        assert not ((alone != 0) & (both == 0)).any()
        hidden += ((alone == 0) & (both == 1)).sum()
    assert hidden > 0
