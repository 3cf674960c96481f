"""Drawing the ground of a synthetic panoptic scene: two or three regions of stuff, told apart by colour and texture."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from nasperc.data.synthetic_scene import smooth_noise

# (H, W) -> (H, W, 3) float32.
Texture = Callable[[tuple[int, int], np.random.Generator], np.ndarray]


def _coloured(colour: Sequence[float], size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A colour that differs a little from image to image."""
    tint = np.asarray(colour, np.float32) + rng.uniform(-15, 15, 3).astype(np.float32)
    return np.broadcast_to(tint, (*size, 3)).copy()


def _grass(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Green, with blades of a few pixels."""
    blades = smooth_noise(size, 2, rng) - 0.5
    return _coloured((70, 140, 50), size, rng) + 110 * blades[..., None]


def _sand(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Yellow, with grains of a pixel and dunes."""
    grains = rng.standard_normal(size, dtype=np.float32)
    dunes = smooth_noise(size, max(4, min(size) // 6), rng) - 0.5
    return _coloured((205, 180, 120), size, rng) + (12 * grains + 30 * dunes)[..., None]


def _sky(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Blue, brighter further down, with clouds."""
    clouds = smooth_noise(size, max(4, min(size) // 3), rng)
    down = np.linspace(0, 50, size[0], dtype=np.float32)[:, None]
    return _coloured((90, 140, 210), size, rng) + (down + 40 * clouds)[..., None]


def _water(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Dark blue-green, with waves from side to side."""
    y = np.arange(size[0], dtype=np.float32)[:, None]
    bend = 6 * smooth_noise(size, max(4, min(size) // 4), rng)
    return _coloured((30, 90, 110), size, rng) + 28 * np.sin((y + bend) / rng.uniform(1.2, 2))[..., None]


STUFF: dict[str, Texture] = {"grass": _grass, "sand": _sand, "sky": _sky, "water": _water}


def draw_stuff(
    size: tuple[int, int], names: Sequence[str], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A ground of one region for each of one to three ``names``.

    The second lies below the first, and the third beside that.

    Returns:
        The image, (H, W, 3) float32, and (H, W) int64, the place in ``names`` of each pixel's region, -1 at borders.
    """
    height, width = size
    region = np.zeros(size, np.int64)
    if len(names) > 1:
        horizon = _border(width, height, rng)
        region[np.arange(height)[:, None] >= horizon[None]] = 1
    if len(names) > 2:
        beside = np.arange(width)[None] >= _border(height, width, rng)[:, None]
        region[(region == 1) & beside] = 2
    image = np.zeros((*size, 3), np.float32)
    for place, name in enumerate(names):
        inside = region == place
        image[inside] = STUFF[name](size, rng)[inside]
    return image, np.where(_at_border(region), -1, region)


def _border(length: int, extent: int, rng: np.random.Generator) -> np.ndarray:
    """(length,) a wave around the middle of ``extent``."""
    phase = rng.uniform(0, 2 * np.pi)
    wave = np.sin(np.linspace(0, rng.uniform(2, 8), length) + phase)
    return extent * (rng.uniform(0.35, 0.6) + rng.uniform(0.02, 0.1) * wave)


def _at_border(region: np.ndarray) -> np.ndarray:
    """(H, W) bool: the pixels above, below or beside one of another region."""
    at = np.zeros(region.shape, bool)
    below, beside = region[:-1] != region[1:], region[:, :-1] != region[:, 1:]
    at[:-1] |= below
    at[1:] |= below
    at[:, :-1] |= beside
    at[:, 1:] |= beside
    return at
