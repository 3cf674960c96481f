"""Drawing one synthetic scene: textured shapes that overlap, on a cluttered background."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

Shape = Callable[[np.ndarray, np.ndarray], np.ndarray]

# An object must stay recognisable: at least this share of it is visible once everything is drawn.
MIN_VISIBLE = 0.4
_ATTEMPTS = 12


def _triangle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    sides = [np.cos(a) * u + np.sin(a) * v for a in np.deg2rad((90.0, 210.0, 330.0))]
    return np.maximum.reduce(sides) < 0.5


def _star(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    # Folded into half a point of the star: the edge runs from the tip (1, 0) to the notch at 36 degrees.
    angle = np.abs((np.arctan2(v, u) + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5)
    radius = np.hypot(u, v)
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    notch_x, notch_y = 0.42 * np.cos(np.pi / 5), 0.42 * np.sin(np.pi / 5)
    return (x - 1) * notch_y - y * (notch_x - 1) < 0


# Membership of a point (u, v), the shape inscribed in the unit circle.
SHAPES: dict[str, Shape] = {
    "cross": lambda u, v: ((np.abs(u) < 0.3) & (np.abs(v) < 0.95)) | ((np.abs(v) < 0.3) & (np.abs(u) < 0.95)),
    "disc": lambda u, v: u * u + v * v < 1,
    "ring": lambda u, v: (u * u + v * v < 1) & (u * u + v * v > 0.3),
    "square": lambda u, v: np.maximum(np.abs(u), np.abs(v)) < 0.75,
    "star": _star,
    "triangle": _triangle,
}


@dataclass(frozen=True)
class Scene:
    """``image``: (H, W, 3) uint8. ``classes``: a name an object. ``masks``: (N, H, W) bool, visible parts."""

    image: np.ndarray
    classes: tuple[str, ...]
    masks: np.ndarray

    def boxes(self) -> list[tuple[int, int, int, int]]:
        """(x1, y1, x2, y2) around each visible part, x2 and y2 exclusive."""
        boxes = []
        for mask in self.masks:
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            boxes.append((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))
        return boxes


def take_turns(names: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    """The names without end, each of them once in a random order before any comes again."""
    while True:
        yield from (names[k] for k in rng.permutation(len(names)))


def draw_scene(
    size: tuple[int, int], classes: list[str], rng: np.random.Generator, ground: np.ndarray | None = None
) -> Scene:
    """Draw one object for each name in ``classes``, later ones over earlier ones.

    An object that would hide too much of another is tried elsewhere a few times and then left out, so a scene
    can hold fewer objects than asked for.

    Args:
        size: (H, W).
        classes: names from ``SHAPES``.
        rng: of all random numbers.
        ground: (H, W, 3) float32, what they lie on, drawn into; None: a background of clutter.
    """
    image = background(size, rng) if ground is None else ground
    owner = np.full(size, -1)
    names: list[str] = []
    areas: list[int] = []
    for name in classes:
        for _ in range(_ATTEMPTS):
            full, mask, window = _place(name, size, rng)
            visible = np.bincount(owner[owner >= 0], minlength=len(areas))
            covered = np.bincount(owner[window][mask & (owner[window] >= 0)], minlength=len(areas))
            uncovered = np.all(visible - covered >= MIN_VISIBLE * np.array(areas))
            if uncovered and mask.sum() >= MIN_VISIBLE * full:
                _paint(image[window], mask, rng)
                owner[window][mask] = len(names)
                names.append(name)
                areas.append(full)
                break
    masks = owner[None] == np.arange(len(names))[:, None, None]
    # Sensor noise last, so that no texture is cleaner than the background.
    image += rng.uniform(2, 7) * rng.standard_normal((*size, 1), dtype=np.float32)
    return Scene(np.clip(image, 0, 255).astype(np.uint8), tuple(names), masks)


def _place(
    name: str, size: tuple[int, int], rng: np.random.Generator
) -> tuple[int, np.ndarray, tuple[slice, slice]]:
    """The object's whole area, its mask inside the image, and the window that the mask covers."""
    short = min(size)
    radius = max(6.0, short * 0.5 * float(np.exp(rng.uniform(np.log(0.1), np.log(0.5)))))
    centre = [rng.uniform(min(0.6 * radius, n / 2), max(n - 0.6 * radius, n / 2)) for n in size]
    angle, stretch = rng.uniform(0, 2 * np.pi), rng.uniform(0.75, 1.0)
    low, u, v = local_grid((centre[0], centre[1]), radius, angle, stretch)
    shape = SHAPES[name](u, v)
    window, inside = overlap(low, shape.shape[0], size)
    return int(shape.sum()), shape[inside], window


def local_grid(
    centre: tuple[float, float], radius: float, angle: float, stretch: float
) -> tuple[tuple[int, int], np.ndarray, np.ndarray]:
    """The square of pixels around an object: its upper left corner (y, x), and each pixel's place (u, v) in the
    object, whose shape is inscribed in the unit circle."""
    low = (int(np.floor(centre[0] - radius)), int(np.floor(centre[1] - radius)))
    extent = 2 * int(np.ceil(radius)) + 1
    dy, dx = ((np.arange(extent) + start + 0.5 - c) / radius for start, c in zip(low, centre, strict=True))
    u = np.cos(angle) * dx[None] + np.sin(angle) * dy[:, None]
    v = (np.cos(angle) * dy[:, None] - np.sin(angle) * dx[None]) / stretch
    return low, u, v


def overlap(
    low: tuple[int, int], extent: int, size: tuple[int, int]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """What an image of ``size`` and the square at ``low`` share, as slices of the image and of the square."""
    axes = [
        (min(max(start, 0), n), min(max(start + extent, 0), n)) for start, n in zip(low, size, strict=True)
    ]
    window = (slice(*axes[0]), slice(*axes[1]))
    inside = (
        slice(axes[0][0] - low[0], axes[0][1] - low[0]),
        slice(axes[1][0] - low[1], axes[1][1] - low[1]),
    )
    return window, inside


def _paint(window: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> None:
    """Fill ``mask`` of the image's window with a texture whose mean differs from what lies beneath."""
    window[mask] = surface(mask.shape, window[mask].mean(axis=0), rng)[mask]


def surface(size: tuple[int, ...], beneath: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) texture of an object, unlike the colour ``beneath``."""
    for _ in range(_ATTEMPTS):
        colour = rng.uniform(20, 235, 3)
        if np.abs(colour - beneath).mean() > 50:
            break
    other = np.clip(colour + rng.choice((-1, 1)) * rng.uniform(25, 70) + rng.normal(0, 15, 3), 0, 255)
    pattern = _texture(size, rng)[..., None]
    texture = colour * (1 - pattern) + other * pattern
    shade = np.linspace(rng.uniform(0.8, 1.0), rng.uniform(0.8, 1.0), size[0])[:, None, None]
    return texture * shade


def _texture(size: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """(H, W) blend weight in 0..1 between the two colours of an object."""
    y, x = np.mgrid[: size[0], : size[1]]
    angle, period = rng.uniform(0, np.pi), rng.uniform(5, 12)
    along = (np.cos(angle) * x + np.sin(angle) * y) / period
    across = (np.cos(angle) * y - np.sin(angle) * x) / period
    kind = rng.integers(5)
    if kind == 0:
        return (along % 1 < 0.5).astype(float)
    if kind == 1:
        return ((along % 1 < 0.5) ^ (across % 1 < 0.5)).astype(float)
    if kind == 2:
        return ((along % 1 - 0.5) ** 2 + (across % 1 - 0.5) ** 2 < 0.09).astype(float)
    if kind == 3:
        return smooth_noise((size[0], size[1]), 4, rng)
    return np.full(size, rng.uniform(0, 0.3))


def smooth_noise(size: tuple[int, int], cell: int, rng: np.random.Generator) -> np.ndarray:
    """(H, W) noise in 0..1 with features of about ``cell`` pixels."""
    grid = rng.integers(0, 256, (size[0] // cell + 2, size[1] // cell + 2), dtype=np.uint8)
    return np.asarray(
        Image.fromarray(grid).resize((size[1], size[0]), Image.Resampling.BICUBIC)
    ) / np.float32(255)


def background(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) float32: a gradient, noise, and clutter that is no object: lines and soft blobs."""
    height, width = size
    y, x = np.ogrid[:height, :width]
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.cos(angle) * x / width + np.sin(angle) * y / height
    ramp = ((ramp - ramp.min()) / np.ptp(ramp)).astype(np.float32)[..., None]
    image = _uniform(30, 220, rng) * (1 - ramp) + _uniform(30, 220, rng) * ramp
    for cell, strength in ((max(4, min(size) // 4), 70), (max(2, min(size) // 20), 30)):
        image += (smooth_noise(size, cell, rng)[..., None] - 0.5) * _uniform(0, strength, rng)
    for _ in range(rng.integers(2, 7)):
        cy, cx = rng.uniform(0, height), rng.uniform(0, width)
        ry, rx = rng.uniform(0.02, 0.12, 2) * min(size)
        blob = np.exp(-(((y - cy) / ry) ** 2)) * np.exp(-(((x - cx) / rx) ** 2))
        image += 0.7 * blob.astype(np.float32)[..., None] * (_uniform(20, 235, rng) - image)
    canvas = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(canvas)
    for _ in range(rng.integers(2, 8)):
        ends = [(float(rng.uniform(0, width)), float(rng.uniform(0, height))) for _ in range(2)]
        colour = tuple(int(c) for c in rng.integers(20, 235, 3))
        pen.line(ends, fill=colour, width=int(rng.integers(1, 4)))
    return np.asarray(canvas).astype(np.float32)


def _uniform(low: float, high: float, rng: np.random.Generator) -> np.ndarray:
    """A colour, float32: one float64 operand would turn whole images into float64, four times as slow."""
    return rng.uniform(low, high, 3).astype(np.float32)
