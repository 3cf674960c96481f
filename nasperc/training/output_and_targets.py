"""What a detector makes of a batch of images, and what it should make of it."""

from __future__ import annotations

from typing import Any

from nasperc.data.batch import Batch
from nasperc.models.detector import Detector, DetectorOutput


def output_and_targets(model: Detector, batch: Batch, size_scale: float = 1.0) -> tuple[DetectorOutput, Any]:
    """The output, and stacked targets, on the model's device.

    Images without objects are background throughout. ``size_scale``: factor on the head's sizes of interest.

    Raises:
        ValueError: a sample has no boxes.
    """
    device = next(model.parameters()).device
    output: DetectorOutput = model(batch.images.to(device))
    levels = output.neck[-len(model.levels) :]
    level_sizes = [(int(level.shape[-2]), int(level.shape[-1])) for level in levels]
    targets = []
    for sample in batch.samples:
        if sample.boxes is None or sample.labels is None or sample.crowd is None:
            raise ValueError(f"{sample.meta.file} has no boxes to train on")
        targets.append(model.targets(sample.instances.to(device), level_sizes, size_scale))
    return output, model.stack(targets)
