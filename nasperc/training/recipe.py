"""The recipe section of training on images: full training, and fine-tuning the backbone before a search."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from nasperc.limits import LARGEST_BOUND, LONGEST_SIDE, MOST_AT_ONCE


class TrainingRecipe(BaseModel):
    """Schedule, optimiser, image sizes. Defaults: full training of NAS-FCOS (thesis 7.4.1, its release)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    iterations: int = Field(default=90_000, ge=1)
    batch_size: int = Field(default=16, ge=1, le=MOST_AT_ONCE)
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = Field(default=0.01, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=1e-4, ge=0)
    # Biases: learning rate times two, no weight decay (NAS-FCOS release).
    bias_lr_factor: float = Field(default=2.0, gt=0)
    backbone_lr_factor: float = Field(default=1.0, ge=0)
    warmup_iterations: int = Field(default=500, ge=0)
    warmup_factor: float = Field(default=1 / 3, gt=0, le=1)
    warmup_kind: Literal["constant", "linear"] = "linear"
    # Where the learning rate drops to a tenth: iterations, or fractions of ``iterations`` if below 1. The
    # default is 60k and 80k of 90k, and stays in proportion when ``iterations`` alone is changed.
    steps: tuple[float, ...] = (2 / 3, 8 / 9)
    gradient_clip: float | None = Field(default=None, gt=0)
    # Evaluate an exponential average of the parameters; None evaluates the parameters themselves.
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    # Training batches over which BatchNorm statistics are estimated for averaged parameters.
    ema_batch_norm_batches: int = Field(default=50, ge=1)
    short_sides: tuple[Annotated[int, Field(ge=1, le=LONGEST_SIDE)], ...] = Field(
        default=(800,), min_length=1, max_length=LONGEST_SIDE
    )
    max_long_side: int = Field(default=1333, ge=32, le=LARGEST_BOUND)
    test_short_side: int = Field(default=800, ge=32, le=LONGEST_SIDE)
    # Side of a random square crop after resizing; None trains on whole images.
    crop: int | None = Field(default=None, ge=32, le=LONGEST_SIDE)
    flip: float = Field(default=0.5, ge=0, le=1)
    checkpoint_every: int = Field(default=1000, ge=1)
    # bfloat16 autocast, on CUDA only; parameters, losses and evaluation stay in float32.
    mixed_precision: bool = True
    freeze_backbone: bool = False
    # The head's sizes of interest are stated for a short side of 800; on smaller images S / 800 keeps an object of
    # the same share of the image on the same level, as the proxy task does ("scaled correspondingly", 7.4.1).
    sizes_of_interest_scale: float = Field(default=1.0, gt=0)
