"""The losses of a detector on a batch of images, for the training loop."""

from __future__ import annotations

from torch import Tensor, nn

from nasperc.data.batch import Batch
from nasperc.models.detector import Detector
from nasperc.models.reduction import Reduce, reduce_alone
from nasperc.training.output_and_targets import output_and_targets


def detection_losses(
    model: nn.Module, batch: Batch, size_scale: float = 1.0, reduce: Reduce = reduce_alone
) -> dict[str, Tensor]:
    """The losses of a detector by name, all scalars.

    ``model`` is a :class:`Detector`; images and targets are moved to its device. Images without objects are
    background throughout. ``size_scale``: factor on the head's sizes of interest. ``reduce``: of the processes
    that share the batch, see :meth:`Detector.losses`.
    """
    assert isinstance(model, Detector)
    losses: dict[str, Tensor] = model.losses(*output_and_targets(model, batch, size_scale), reduce)._asdict()
    return losses
