"""The losses of a detector on a batch of images, for the training loop."""

from __future__ import annotations

from torch import Tensor, nn

from nasperc.data.batch import Batch
from nasperc.models.detector import Detector, DetectorOutput
from nasperc.models.reduction import Reduce, reduce_alone


def detection_losses(
    model: nn.Module, batch: Batch, size_scale: float = 1.0, reduce: Reduce = reduce_alone
) -> dict[str, Tensor]:
    """The losses of a detector by name, all scalars.

    ``model`` is a :class:`Detector`; images and targets are moved to its device. Images without objects are
    background throughout. ``size_scale``: factor on the head's sizes of interest. ``reduce``: of the processes
    that share the batch, see :meth:`Detector.losses`.
    """
    assert isinstance(model, Detector)
    device = next(model.parameters()).device
    output: DetectorOutput = model(batch.images.to(device))
    levels = output.neck[-len(model.levels) :]
    level_sizes = [(int(level.shape[-2]), int(level.shape[-1])) for level in levels]
    targets = []
    for sample in batch.samples:
        if sample.boxes is None or sample.labels is None or sample.crowd is None:
            raise ValueError(f"{sample.meta.file} has no boxes to train on")
        targets.append(model.targets(sample.instances.to(device), level_sizes, size_scale))
    losses: dict[str, Tensor] = model.losses(output, model.stack(targets), reduce)._asdict()
    return losses
