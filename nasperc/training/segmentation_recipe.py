"""The recipe section ``video``: training the per-frame network, the dynamic cell, and both end to end."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from nasperc.limits import LONGEST_SIDE, MOST_AT_ONCE

# (low, high) of the factor that images are resized by; (1, 1) leaves them as they are.
_Scale = Annotated[float, Field(gt=0, le=8)]
_Side = Annotated[int, Field(ge=32, le=LONGEST_SIDE)]
Scales = tuple[_Scale, _Scale]
Crop = tuple[_Side, _Side]


def _normalisable(batch_size: int) -> int:
    if batch_size < 2:
        raise ValueError("global pooling gives BatchNorm one value an image: a batch needs at least two")
    return batch_size


BatchSize = Annotated[int, Field(le=MOST_AT_ONCE), AfterValidator(_normalisable)]


def _ascending(scales: Scales) -> Scales:
    if scales[0] > scales[1]:
        raise ValueError("the smaller scale comes first")
    return scales


class _Phase(BaseModel):
    """``power``: of the "poly" schedule, (1 - iteration / iterations) ** power; 0 is a constant learning rate."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: float = Field(gt=0)
    batch_size: BatchSize
    power: float = Field(default=0.0, ge=0)

    def iterations(self, examples: int) -> int:
        """Of the epochs, over ``examples`` images or sequences; the last batch may reach into the next epoch."""
        return max(1, math.ceil(self.epochs * examples / self.batch_size))


class StaticTrainingRecipe(_Phase):
    """Pre-training of the per-frame network on single frames (thesis A.1, on CamVid).

    The thesis has 5e-2 for the encoder and 1e-2 for the decoder. ``scales``, ``crop`` (H, W), ``flip``: of the
    augmentation; smaller images are padded with the mean colour. ``loss_size``: where the cross entropy is taken:
    ``logits``, at 1/8 of the image, to which the labels are reduced (as arch2's authors trained it), or ``labels``, to
    whose size the logits are interpolated.
    """

    epochs: float = Field(default=2000, gt=0)
    batch_size: BatchSize = 32
    power: float = Field(default=0.9, ge=0)
    optimizer: Literal["sgd", "adam"] = "sgd"
    encoder_learning_rate: float = Field(default=5e-2, gt=0)
    decoder_learning_rate: float = Field(default=1e-2, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=1e-5, ge=0)
    auxiliary_weight: float = Field(default=0.3, ge=0)
    gradient_clip: float | None = Field(default=None, gt=0)
    scales: Annotated[Scales, AfterValidator(_ascending)] = (0.5, 2.0)
    crop: Crop = (600, 600)
    flip: float = Field(default=0.5, ge=0, le=1)
    loss_size: Literal["logits", "labels"] = "logits"
    checkpoint_every: int = Field(default=500, ge=1)
    # bfloat16 autocast, on CUDA only.
    mixed_precision: bool = True


class CellPhase(_Phase):
    """The cell alone on the frozen static network: Adam (thesis 6.4.2, on CamVid)."""

    epochs: float = Field(default=10, gt=0)
    batch_size: BatchSize = 16
    learning_rate: float = Field(default=8e-3, gt=0)


class EndToEndPhase(_Phase):
    """Everything: Adam at half the rate for the cell, SGD for the static network (thesis 6.4.2, on CamVid)."""

    epochs: float = Field(default=100, gt=0)
    batch_size: BatchSize = 16
    cell_learning_rate: float = Field(default=4e-3, gt=0)
    static_learning_rate: float = Field(default=5e-4, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)


class VideoTrainingRecipe(BaseModel):
    """Section ``video`` of the recipe. ``static`` is what the search and full training both start from.

    The other keys are those of full training, on sequences of ``sequence_length`` frames: ``pad``, to which the short
    side is padded with the mean colour (None: not), then ``crop`` (H, W), of which a smaller image keeps what there
    is. ``weight_decay`` and ``gradient_clip`` hold for both phases.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    static: StaticTrainingRecipe = StaticTrainingRecipe()
    cell: CellPhase = CellPhase()
    end_to_end: EndToEndPhase = EndToEndPhase()
    sequence_length: int = Field(default=3, ge=2, le=MOST_AT_ONCE)
    pad: int | None = Field(default=400, ge=32, le=LONGEST_SIDE)
    crop: Crop = (600, 600)
    scales: Annotated[Scales, AfterValidator(_ascending)] = (1.0, 1.0)
    flip: float = Field(default=0.5, ge=0, le=1)
    loss_size: Literal["logits", "labels"] = "logits"
    weight_decay: float = Field(default=1e-5, ge=0)
    gradient_clip: float | None = Field(default=None, gt=0)
    checkpoint_every: int = Field(default=200, ge=1)
    mixed_precision: bool = True
