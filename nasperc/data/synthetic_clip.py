"""Drawing one synthetic video: textured shapes move, turn and hide one another before a camera that pans."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nasperc.data.synthetic_scene import SHAPES, background, local_grid, overlap, surface

BACKGROUND = "background"
# The camera swings by at most this share of the frame to either side, once in so many frames.
PAN = 0.15
_PAN_PERIOD = (16, 40)


@dataclass(frozen=True)
class _Body:
    """An object in world coordinates (y, x), whose texture moves with it; ``name`` None is of no class."""

    name: str | None
    radius: float
    stretch: float
    surface: np.ndarray
    start: np.ndarray
    velocity: np.ndarray
    angle: float
    spin: float

    def centre(self, time: int, world: np.ndarray) -> np.ndarray:
        """It moves straight on and is thrown back at the border of the world."""
        way = (self.start + time * self.velocity) % (2 * world)
        return np.minimum(way, 2 * world - way)

    def shape(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return (np.abs(u) < 1) & (np.abs(v) < 0.2) if self.name is None else SHAPES[self.name](u, v)


def draw_clip(
    frames: int, size: tuple[int, int], objects: Sequence[str], rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The frames of one video: (H, W, 3) uint8, and (H, W) int64 of the object that each pixel shows.

    A pixel shows ``objects[k]`` where its value is k, the background at -1, and an object of no class (a bar that
    moves among the others) at -2. Later objects hide earlier ones; their parts differ from frame to frame.
    """
    swing = np.ceil(PAN * np.array(size)).astype(int)
    world = np.array(size) + 2 * swing
    scenery = background((int(world[0]), int(world[1])), rng)
    period, phase = rng.uniform(*_PAN_PERIOD, 2), rng.uniform(0, 2 * np.pi, 2)
    flicker = rng.uniform(0, 2 * np.pi)
    bodies = [_body(name, world, size, scenery, rng) for name in (None, *objects)]
    for time in range(frames):
        camera = np.rint(swing * (1 + np.sin(2 * np.pi * time / period + phase))).astype(int)
        image = scenery[camera[0] : camera[0] + size[0], camera[1] : camera[1] + size[1]].copy()
        shown = np.full(size, -1)
        for index, body in enumerate(bodies):
            _draw(body, body.centre(time, world) - camera, time, index - 1 if index else -2, image, shown)
        image *= 1 + 0.06 * np.sin(0.5 * time + flicker)
        image += 4 * rng.standard_normal((*size, 1), dtype=np.float32)
        yield np.clip(image, 0, 255).astype(np.uint8), shown


def _body(
    name: str | None, world: np.ndarray, size: tuple[int, int], scenery: np.ndarray, rng: np.random.Generator
) -> _Body:
    short = min(size)
    radius = max(6.0, short * rng.uniform(0.12, 0.3))
    side = 2 * int(np.ceil(radius)) + 1
    heading, speed = rng.uniform(0, 2 * np.pi), short * rng.uniform(0.01, 0.05)
    return _Body(
        name=name,
        radius=radius,
        stretch=rng.uniform(0.75, 1.0),
        surface=surface((side, side), scenery.mean(axis=(0, 1)), rng),
        start=rng.uniform(0.15, 0.85, 2) * world,
        velocity=speed * np.array([np.sin(heading), np.cos(heading)]),
        angle=rng.uniform(0, 2 * np.pi),
        spin=rng.uniform(-0.15, 0.15),
    )


def _draw(
    body: _Body, centre: np.ndarray, time: int, label: int, image: np.ndarray, shown: np.ndarray
) -> None:
    """Paint the body around ``centre`` of the frame over what is there."""
    place = (float(centre[0]), float(centre[1]))
    low, u, v = local_grid(place, body.radius, body.angle + time * body.spin, body.stretch)
    window, inside = overlap(low, len(u), (shown.shape[0], shown.shape[1]))
    u, v = u[inside], v[inside]
    mask = body.shape(u, v)
    last = len(body.surface) - 1
    column, row = (np.clip(np.rint((x + 1) / 2 * last), 0, last).astype(int) for x in (u[mask], v[mask]))
    image[window][mask] = body.surface[row, column]
    shown[window][mask] = label
