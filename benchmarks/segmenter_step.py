"""A step of training of an instance segmenter, and what of it is the making of mask targets."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from benchmarks.roi_ops import coco_boxes
from benchmarks.thread_clock import milliseconds
from nasperc.data.batch import Batch
from nasperc.data.object_masks import ObjectMasks
from nasperc.data.sample import Meta, Sample
from nasperc.models.fcos.model import FCOS
from nasperc.models.instance_segmenter import InstanceSegmenter
from nasperc.training.detection import detection_losses

OBJECTS, POINTS, STEP_IMAGES = 8, 32, 2


class Step:
    """A step of training on images of noise.

    Args:
        model: to train.
        size: (H, W) of the images, padded to what the model divides into.
    """

    def __init__(self, model: InstanceSegmenter, size: tuple[int, int]) -> None:
        self.model = model.train()
        classes: int = model.head.num_classes  # type: ignore[assignment]
        self.batch = _batch(size, padded(size, model.divisor), classes)
        self.optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)

    def run(self) -> dict[str, float]:
        """Milliseconds of ``step``, and of ``targets``: those of masks."""
        step = milliseconds(self._step)
        return {"step": step, "targets": milliseconds(self.targets) - milliseconds(self._boxes)}

    def targets(self) -> object:
        """As the training makes them."""
        model = self.model
        return model.stack([model.targets(each.instances, self._sizes) for each in self.batch.samples])

    def _boxes(self) -> object:
        """Those of the detector alone."""
        model = self.model
        return FCOS.stack(model, [FCOS.targets(model, s.instances, self._sizes) for s in self.batch.samples])

    @property
    def _sizes(self) -> list[tuple[int, int]]:
        height, width = self.batch.images.shape[-2:]
        return [(math.ceil(height / stride), math.ceil(width / stride)) for stride in self.model.strides]

    def _step(self) -> None:
        losses = detection_losses(self.model, self.batch)
        self.optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        self.optimizer.step()


def padded(size: tuple[int, int], divisor: int) -> tuple[int, int]:
    """``size`` (H, W) rounded up to multiples of ``divisor``."""
    height, width = (math.ceil(side / divisor) * divisor for side in size)
    return height, width


def _batch(size: tuple[int, int], whole: tuple[int, int], classes: int) -> Batch:
    """Noise, with polygons of COCO's sizes: ellipses that go in and out."""
    height, width = size
    generator = torch.Generator().manual_seed(0)
    angle = torch.arange(POINTS) / POINTS * 2 * math.pi
    samples = []
    for number in range(STEP_IMAGES):
        boxes = coco_boxes(OBJECTS, size)
        radius = 0.35 + 0.15 * torch.rand(OBJECTS, POINTS, generator=generator)
        unit = 0.5 + radius[..., None] * torch.stack((angle.cos(), angle.sin()), 1)
        points = boxes[:, None, :2] + unit * (boxes[:, 2:] - boxes[:, :2])[:, None]
        samples.append(
            Sample(
                torch.zeros(3, height, width, dtype=torch.uint8),
                Meta(number, Path(f"{number}.png"), size),
                boxes=boxes,
                labels=torch.randint(classes, (OBJECTS,), generator=generator),
                crowd=torch.zeros(OBJECTS, dtype=torch.bool),
                masks=ObjectMasks.of([[each.flatten().tolist()] for each in points], size),
            )
        )
    images = torch.randn(STEP_IMAGES, 3, *whole, generator=generator)
    return Batch(images.contiguous(memory_format=torch.channels_last), [size] * STEP_IMAGES, samples)
