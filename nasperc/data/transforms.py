"""Geometric transforms: parameters are drawn once, the same map is applied to every field and every frame."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nasperc.data.sample import Sample

SEMANTIC_IGNORE = 255
PANOPTIC_VOID = 0


class Transform(ABC):
    """``draw`` decides, ``apply`` maps. Given the same parameters ``apply`` is a pure function."""

    @abstractmethod
    def draw(self, sample: Sample, rng: np.random.Generator) -> Any:
        """The parameters for a sample (for a sequence: its first frame)."""

    @abstractmethod
    def apply(self, sample: Sample, params: Any) -> Sample:
        """The sample with every set field mapped."""

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Draw and apply."""
        return self.apply(sample, self.draw(sample, rng))

    def sequence(self, frames: Sequence[Sample], rng: np.random.Generator) -> list[Sample]:
        """Draw on the first frame, apply to all."""
        params = self.draw(frames[0], rng)
        return [self.apply(frame, params) for frame in frames]


class Compose(Transform):
    """Transforms one after another."""

    def __init__(self, *transforms: Transform) -> None:
        self.transforms = transforms

    def draw(self, sample: Sample, rng: np.random.Generator) -> tuple[Any, ...]:
        """Parameters of all; a later transform sees the sample as the earlier ones leave it."""
        return self._run(sample, rng)[1]

    def apply(self, sample: Sample, params: tuple[Any, ...]) -> Sample:
        for transform, drawn in zip(self.transforms, params, strict=True):
            sample = transform.apply(sample, drawn)
        return sample

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """As ``apply(draw())``, but each transform is applied once instead of twice."""
        return self._run(sample, rng)[0]

    def _run(self, sample: Sample, rng: np.random.Generator) -> tuple[Sample, tuple[Any, ...]]:
        params = []
        for transform in self.transforms:
            params.append(transform.draw(sample, rng))
            sample = transform.apply(sample, params[-1])
        return sample, tuple(params)


class MultiScaleResize(Transform):
    """Resize the short side to one of ``short_sides`` (drawn), the long side to ``max_long_side`` at most.

    Images: bilinear with antialiasing. Masks, semantic and panoptic maps: nearest. The aspect ratio is kept
    up to rounding to whole pixels, and boxes follow the rounded size. ``meta.size`` stays the original's.
    """

    def __init__(self, short_sides: Sequence[int], max_long_side: int) -> None:
        self.short_sides = tuple(short_sides)
        self.max_long_side = max_long_side

    def draw(self, sample: Sample, rng: np.random.Generator) -> int:
        return self.short_sides[int(rng.integers(len(self.short_sides)))]

    def apply(self, sample: Sample, params: int) -> Sample:
        height, width = sample.image.shape[-2:]
        scale = min(params / min(height, width), self.max_long_side / max(height, width))
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        if size == (height, width):
            return sample
        image = F.interpolate(sample.image[None], size, mode="bilinear", antialias=True, align_corners=False)[
            0
        ]
        ratios = (size[1] / width, size[0] / height)
        return sample.with_fields(
            image=image,
            boxes=None if sample.boxes is None else sample.boxes * torch.tensor(ratios * 2),
            masks=_nearest(sample.masks, size),
            semantic=_nearest(sample.semantic, size),
            panoptic=_nearest(sample.panoptic, size),
        )


class Resize(MultiScaleResize):
    """Resize to one short side."""

    def __init__(self, short_side: int, max_long_side: int) -> None:
        super().__init__((short_side,), max_long_side)

    def draw(self, sample: Sample, rng: np.random.Generator) -> int:
        # No random number is taken: what comes after draws the same with and without it.
        return self.short_sides[0]


class HorizontalFlip(Transform):
    """Mirror left and right with probability ``p``."""

    def __init__(self, p: float = 0.5) -> None:
        self.p = p

    def draw(self, sample: Sample, rng: np.random.Generator) -> bool:
        return bool(rng.random() < self.p)

    def apply(self, sample: Sample, params: bool) -> Sample:
        if not params:
            return sample
        boxes = sample.boxes
        if boxes is not None:
            width = sample.image.shape[-1]
            boxes = torch.stack((width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]), dim=1)
        fields = {name: getattr(sample, name) for name in ("masks", "semantic", "panoptic")}
        flipped = {name: None if value is None else value.flip(-1) for name, value in fields.items()}
        return sample.with_fields(image=sample.image.flip(-1), boxes=boxes, **flipped)


class RandomCrop(Transform):
    """A window of ``size`` (H, W) that keeps at least one object when the image has one.

    A window is drawn uniformly, up to ``attempts`` times, until the centre of a non-crowd box lies inside it
    (with masks: and a pixel of such an object's mask). After that it is centred, as far as the border allows,
    on a random non-crowd object (with masks: on a random pixel of it), which cannot fail.

    Boxes are clipped to the window; objects with nothing left (of the box, or of the mask) are removed. Boxes
    are not shrunk to the masks. An image smaller than the window is padded at the bottom and the right: the
    image with 0, semantic with 255, panoptic with 0.
    """

    def __init__(self, size: tuple[int, int], attempts: int = 10) -> None:
        self.size = size
        self.attempts = attempts

    def draw(self, sample: Sample, rng: np.random.Generator) -> tuple[int, int]:
        """(top, left) of the window."""
        room = [
            max(0, int(have) - want) for have, want in zip(sample.image.shape[-2:], self.size, strict=True)
        ]
        objects = self._objects(sample)
        for _ in range(self.attempts):
            top, left = (int(rng.integers(r + 1)) for r in room)
            if not len(objects) or self._keeps_one(sample, objects, top, left):
                return top, left
        y, x = self._point(sample, int(rng.choice(objects)), rng)
        return self._around(y, self.size[0], room[0]), self._around(x, self.size[1], room[1])

    def apply(self, sample: Sample, params: tuple[int, int]) -> Sample:
        top, left = params
        sample = sample.with_fields(
            image=self._window(sample.image, top, left, 0),
            masks=None if sample.masks is None else self._window(sample.masks, top, left, 0),
            semantic=None
            if sample.semantic is None
            else self._window(sample.semantic, top, left, SEMANTIC_IGNORE),
            panoptic=None
            if sample.panoptic is None
            else self._window(sample.panoptic, top, left, PANOPTIC_VOID),
        )
        if sample.boxes is None:
            return sample
        boxes = sample.boxes - torch.tensor([left, top, left, top])
        # Padding holds no object, so clipping to the window is clipping to the image as well.
        boxes = torch.stack(
            (boxes[:, 0::2].clamp(0, self.size[1]), boxes[:, 1::2].clamp(0, self.size[0])), dim=2
        )
        boxes = boxes.flatten(1)
        keep = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        if sample.masks is not None:
            keep &= sample.masks.flatten(1).any(dim=1)
        return sample.with_fields(
            boxes=boxes[keep],
            labels=None if sample.labels is None else sample.labels[keep],
            crowd=None if sample.crowd is None else sample.crowd[keep],
            masks=None if sample.masks is None else sample.masks[keep],
        )

    def _objects(self, sample: Sample) -> np.ndarray:
        if sample.boxes is None:
            return np.zeros(0, np.int64)
        keep = torch.ones(len(sample.boxes), dtype=torch.bool) if sample.crowd is None else ~sample.crowd
        if sample.masks is not None:
            keep = keep & sample.masks.flatten(1).any(dim=1)
        return keep.nonzero().flatten().numpy()

    def _keeps_one(self, sample: Sample, objects: np.ndarray, top: int, left: int) -> bool:
        assert sample.boxes is not None
        bottom, right = top + self.size[0], left + self.size[1]
        boxes = sample.boxes[objects]
        x, y = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
        inside = (x > left) & (x < right) & (y > top) & (y < bottom)
        if sample.masks is None:
            return bool(inside.any())
        return bool(sample.masks[objects[inside.numpy()], top:bottom, left:right].any())

    def _point(self, sample: Sample, index: int, rng: np.random.Generator) -> tuple[float, float]:
        if sample.masks is not None:
            pixels = sample.masks[index].nonzero()
            y, x = pixels[int(rng.integers(len(pixels)))].tolist()
            return y + 0.5, x + 0.5
        assert sample.boxes is not None
        x1, y1, x2, y2 = sample.boxes[index].tolist()
        return (y1 + y2) / 2, (x1 + x2) / 2

    @staticmethod
    def _around(centre: float, extent: int, room: int) -> int:
        return min(max(int(centre - extent / 2), 0), room)

    def _window(self, field: Tensor, top: int, left: int, fill: int) -> Tensor:
        part = field[..., top : top + self.size[0], left : left + self.size[1]]
        below, beside = self.size[0] - part.shape[-2], self.size[1] - part.shape[-1]
        return F.pad(part, (0, beside, 0, below), value=fill) if below or beside else part


def _nearest(field: Tensor | None, size: tuple[int, int]) -> Tensor | None:
    """Nearest neighbour by pixel centres, exact for any dtype (interpolate takes no bool and no int64)."""
    if field is None:
        return None
    height, width = field.shape[-2:]
    rows = ((torch.arange(size[0]) + 0.5) * (height / size[0])).long()
    columns = ((torch.arange(size[1]) + 0.5) * (width / size[1])).long()
    return field[..., rows, :][..., columns]
