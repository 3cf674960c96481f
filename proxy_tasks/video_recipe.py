"""The recipe section of the proxy task ``video_segmentation``; the defaults are the thesis's for CamVid (6.4.1)."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from nasperc.limits import LONGEST_SIDE, MOST_AT_ONCE
from nasperc.training.segmentation_recipe import BatchSize, Crop
from proxy_tasks.cached_recipe import CachedTaskRecipe


class VideoProxyRecipe(CachedTaskRecipe):
    """Sequences, views, schedule and measurement of one candidate; sizes are (H, W) in pixels.

    A view of meta-train is one window of each run of frames, every second view mirrored where ``flip`` says so;
    meta-val is measured as it is, on frames resized by ``long_side`` alone. ``meta_val`` is the share of the
    train split's frames that give the reward, in blocks of at least ``block`` consecutive ones.

    ``loss_size``: cross entropy at the size of the ``logits``, to which labels are reduced, or at that of the
    ``labels``, to which logits are interpolated. Where the thesis says nothing, the defaults are what its authors'
    earlier search does (Nekrasov et al., CVPR 2019): ``logits``, gradients clipped at 3, parameters averaged, weights
    decayed.
    """

    cache_keys: ClassVar[frozenset[str]] = CachedTaskRecipe.cache_keys | {
        "sequence_length",
        "long_side",
        "pad",
        "crop",
        "views",
        "flip",
        "meta_val",
        "block",
        "loss_size",
    }

    sequence_length: int = Field(default=3, ge=2, le=MOST_AT_ONCE)
    long_side: int | None = Field(default=None, ge=32, le=LONGEST_SIDE)
    # The short side to at least this, with the mean colour; then a window of at most that size.
    pad: int | None = Field(default=400, ge=32, le=LONGEST_SIDE)
    crop: Crop = (600, 600)
    views: int = Field(default=1, ge=1, le=MOST_AT_ONCE)
    flip: bool = False
    meta_val: float = Field(default=0.1, gt=0, lt=1)
    block: int = Field(default=10, ge=2)
    loss_size: Literal["logits", "labels"] = "logits"

    batch_size: BatchSize = 48
    epochs: float = Field(default=20, gt=0)
    learning_rate: float = Field(default=8e-3, gt=0)
    weight_decay: float = Field(default=1e-5, ge=0)
    gradient_clip: float | None = Field(default=3.0, gt=0)
    val_batch_size: int = Field(default=16, ge=1, le=MOST_AT_ONCE)

    @model_validator(mode="after")
    def _block_fits(self) -> VideoProxyRecipe:
        if self.block < self.sequence_length:
            raise ValueError(
                f"block >= sequence_length must hold, but got block={self.block}, "
                f"sequence_length={self.sequence_length}"
            )
        return self

    def iterations(self, sequences: int) -> int:
        """Of a candidate's training on so many meta-train sequences; an epoch sees each in one view."""
        return max(1, round(self.epochs * sequences / self.batch_size))
