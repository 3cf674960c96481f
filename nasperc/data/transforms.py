"""Geometric transforms: parameters are drawn once, the same map is applied to every field and every frame."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nasperc.data.object_masks import ObjectMasks
from nasperc.data.pixel_axis import nearest_pixels
from nasperc.data.sample import SEMANTIC_IGNORE, Sample
from nasperc.models.panoptic.segmentation import VOID

# The maps of a sample, and what stands where there is no image.
_MAP_FILL = {"semantic": SEMANTIC_IGNORE, "panoptic": VOID}


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
        """Draw on the first frame, apply to all. The frames have one size."""
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

    def sequence(self, frames: Sequence[Sample], rng: np.random.Generator) -> list[Sample]:
        """The same draws on the first frame as ``draw``, without applying anything to it twice."""
        for transform in self.transforms:
            frames = transform.sequence(frames, rng)
        return list(frames)

    def _run(self, sample: Sample, rng: np.random.Generator) -> tuple[Sample, tuple[Any, ...]]:
        params = []
        for transform in self.transforms:
            params.append(transform.draw(sample, rng))
            sample = transform.apply(sample, params[-1])
        return sample, tuple(params)


class MultiScaleResize(Transform):
    """Resize the short side to one of ``short_sides`` (drawn), the long side to ``max_long_side`` at most.

    Sizes are those of detectron2's ``ResizeShortestEdge``. ``meta.size`` stays the original's.
    """

    def __init__(self, short_sides: Sequence[int], max_long_side: int) -> None:
        self.short_sides = tuple(short_sides)
        self.max_long_side = max_long_side

    def draw(self, sample: Sample, rng: np.random.Generator) -> int:
        return self.short_sides[int(rng.integers(len(self.short_sides)))]

    def apply(self, sample: Sample, params: int) -> Sample:
        height, width = sample.image.shape[-2:]
        return _resized(sample, shortest_edge_size(height, width, params, self.max_long_side))


class Resize(MultiScaleResize):
    """Resize to one short side."""

    def __init__(self, short_side: int, max_long_side: int) -> None:
        super().__init__((short_side,), max_long_side)

    def draw(self, sample: Sample, rng: np.random.Generator) -> int:
        # No random number is taken: what comes after draws the same with and without it.
        return self.short_sides[0]


class ResizeLongSide(Transform):
    """Resize to one long side; the other is rounded as by :class:`RandomScale`."""

    def __init__(self, long_side: int) -> None:
        self.long_side = long_side

    def draw(self, sample: Sample, rng: np.random.Generator) -> None:
        return None

    def apply(self, sample: Sample, params: None = None) -> Sample:
        height, width = sample.image.shape[-2:]
        return _scaled(sample, self.long_side / max(height, width))


class RandomScale(Transform):
    """Resize by a factor drawn uniformly from ``low`` to ``high`` (thesis A.1: 0.5 to 2).

    Halves of a pixel go to the even side, as by the ``cv2.resize(fx=, fy=)`` of the authors' earlier code.
    """

    def __init__(self, low: float, high: float) -> None:
        self.low = low
        self.high = high

    def draw(self, sample: Sample, rng: np.random.Generator) -> float:
        return float(rng.uniform(self.low, self.high))

    def apply(self, sample: Sample, params: float) -> Sample:
        return _scaled(sample, params)


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
        flipped = _mapped(sample, lambda field: field.flip(-1), ObjectMasks.mirrored)
        return flipped.with_fields(boxes=boxes)


class Pad(Transform):
    """Enlarge to at least ``size`` (H, W), half of the margin on either side; nothing is drawn.

    Semantic maps are padded with 255, panoptic ones with 0, the image with ``colour``: RGB in 0..255; a
    normalisation's ``mean_colour`` is what it maps to 0 ("mean-padded", thesis 6.4.1).
    """

    def __init__(self, size: tuple[int, int], colour: tuple[int, int, int] = (0, 0, 0)) -> None:
        self.size = size
        self.colour = colour

    def draw(self, sample: Sample, rng: np.random.Generator) -> None:
        return None

    def apply(self, sample: Sample, params: None = None) -> Sample:
        height, width = sample.image.shape[-2:]
        below, beside = max(0, self.size[0] - height), max(0, self.size[1] - width)
        top, left = below // 2, beside // 2
        sample = _padded(sample, (left, beside - left, top, below - top), self.colour)
        boxes = sample.boxes
        return sample if boxes is None else sample.with_fields(boxes=boxes + torch.tensor([left, top] * 2))


class RandomCrop(Transform):
    """A window of ``size`` (H, W) that keeps at least one object when the image has one.

    A window is drawn uniformly, up to ``attempts`` times, until the centre of a non-crowd box lies inside it
    (with masks: and a pixel of such an object's mask). After that it is centred, as far as the border allows,
    on a random non-crowd object (with masks: on a random pixel of it), which cannot fail.

    Boxes are clipped to the window; objects with nothing left (of the box, or of the mask) are removed. Boxes
    are not shrunk to the masks. An image smaller than the window is padded at the bottom and the right: the
    image with 0, semantic with 255, panoptic with 0; with ``pad=False`` the window ends where the image does.
    """

    def __init__(self, size: tuple[int, int], attempts: int = 10, *, pad: bool = True) -> None:
        self.size = size
        self.attempts = attempts
        self.pad = pad

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
        bottom, right = top + self.size[0], left + self.size[1]
        sample = _mapped(
            sample,
            lambda field: field[..., top:bottom, left:right],
            lambda masks: masks.cropped(top, left, bottom, right),
        )
        if self.pad:
            below, beside = (n - m for n, m in zip(self.size, sample.image.shape[-2:], strict=True))
            sample = _padded(sample, (0, beside, 0, below), (0, 0, 0))
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
            keep &= sample.masks.visible()
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
            keep = keep & sample.masks.visible()
        return keep.nonzero().flatten().numpy()

    def _keeps_one(self, sample: Sample, objects: np.ndarray, top: int, left: int) -> bool:
        assert sample.boxes is not None
        bottom, right = top + self.size[0], left + self.size[1]
        boxes = sample.boxes[objects]
        x, y = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
        inside = (x > left) & (x < right) & (y > top) & (y < bottom)
        if sample.masks is None:
            return bool(inside.any())
        masks = sample.masks[torch.from_numpy(objects)[inside]]
        return bool(masks.cropped(top, left, bottom, right).visible().any())

    def _point(self, sample: Sample, index: int, rng: np.random.Generator) -> tuple[float, float]:
        if sample.masks is not None:
            pixels = sample.masks[torch.tensor([index])].bitmaps()[0].nonzero()
            y, x = pixels[int(rng.integers(len(pixels)))].tolist()
            return y + 0.5, x + 0.5
        assert sample.boxes is not None
        x1, y1, x2, y2 = sample.boxes[index].tolist()
        return (y1 + y2) / 2, (x1 + x2) / 2

    @staticmethod
    def _around(centre: float, extent: int, room: int) -> int:
        return min(max(int(centre - extent / 2), 0), room)


def _mapped(
    sample: Sample, change: Callable[[Tensor], Tensor], change_masks: Callable[[ObjectMasks], ObjectMasks]
) -> Sample:
    """``change`` applied to the image and every map (..., H, W) that is set, ``change_masks`` to the masks."""
    return _mapped_maps(sample, change, change_masks).with_fields(image=change(sample.image))


def _mapped_maps(
    sample: Sample, change: Callable[[Tensor], Tensor], change_masks: Callable[[ObjectMasks], ObjectMasks]
) -> Sample:
    maps = {name: getattr(sample, name) for name in _MAP_FILL}
    masks = None if sample.masks is None else change_masks(sample.masks)
    return sample.with_fields(
        masks=masks, **{name: change(each) for name, each in maps.items() if each is not None}
    )


def _padded(sample: Sample, margins: tuple[int, int, int, int], colour: tuple[int, int, int]) -> Sample:
    """Pixels added (left, right, top, bottom); boxes stay as they are."""
    if not any(margins):
        return sample
    channels = zip(sample.image, colour, strict=True)
    maps = {name: (getattr(sample, name), fill) for name, fill in _MAP_FILL.items()}
    return sample.with_fields(
        image=torch.stack([F.pad(channel, margins, value=fill) for channel, fill in channels]),
        masks=None if sample.masks is None else sample.masks.padded(*margins),
        **{name: F.pad(each, margins, value=fill) for name, (each, fill) in maps.items() if each is not None},
    )


def shortest_edge_size(height: int, width: int, short_side: int, max_long_side: int) -> tuple[int, int]:
    """(H, W) of an image resized to a short side, the long side ``max_long_side`` at most.

    In the order of operations of detectron2's ``ResizeShortestEdge.get_output_shape``: the bound scales the size that
    the short side gave, and halves of a pixel go up, so that 2:1 at 800 and 1333 is 667 x 1333.
    """
    scale = short_side / min(height, width)
    sides: tuple[float, float] = (
        (short_side, scale * width) if height < width else (scale * height, short_side)
    )
    if max(sides) > max_long_side:
        scale = max_long_side / max(sides)
        sides = (sides[0] * scale, sides[1] * scale)
    return max(1, int(sides[0] + 0.5)), max(1, int(sides[1] + 0.5))


def _scaled(sample: Sample, scale: float) -> Sample:
    height, width = sample.image.shape[-2:]
    return _resized(sample, (max(1, round(height * scale)), max(1, round(width * scale))))


def _resized(sample: Sample, size: tuple[int, int]) -> Sample:
    """Images: bilinear with antialiasing. Semantic and panoptic maps: nearest.

    The aspect ratio is kept up to rounding to whole pixels, and boxes follow the rounded size.
    """
    height, width = sample.image.shape[-2:]
    if size == (height, width):
        return sample
    image = F.interpolate(sample.image[None], size, mode="bilinear", antialias=True, align_corners=False)[0]
    ratios = (size[1] / width, size[0] / height)
    resized = _mapped_maps(sample, lambda each: _nearest(each, size), lambda masks: masks.resized(size))
    return resized.with_fields(
        image=image, boxes=None if sample.boxes is None else sample.boxes * torch.tensor(ratios * 2)
    )


def _nearest(field: Tensor, size: tuple[int, int]) -> Tensor:
    """Nearest neighbour by pixel centres, exact for any dtype (interpolate takes no bool and no int64)."""
    height, width = field.shape[-2:]
    rows, columns = nearest_pixels(height, size[0]), nearest_pixels(width, size[1])
    return field[..., rows, :][..., columns]
