"""The recipe section of the proxy task ``detection``; the defaults are the thesis's values (7.4.1)."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from nasperc.limits import LONGEST_SIDE, MOST_AT_ONCE
from nasperc.training.recipe import TrainingRecipe
from proxy_tasks.cached_recipe import CachedTaskRecipe
from search_spaces.base import WIDEST


class DetectionProxyRecipe(CachedTaskRecipe):
    """Crops, schedule and measurement of one candidate.

    A view is one random crop and flip of an image; ``meta_train`` is the share of the train split's images
    that candidates are trained on, the others give the reward.
    """

    cache_keys: ClassVar[frozenset[str]] = CachedTaskRecipe.cache_keys | {
        "short_side",
        "crop",
        "views",
        "val_views",
        "flip",
        "meta_train",
        "finetune",
        "finetune_width",
        "finetune_training",
        "head_stage",
    }

    short_side: int = Field(default=384, ge=32, le=LONGEST_SIDE)
    crop: int = Field(default=384, ge=32, le=LONGEST_SIDE, multiple_of=32)
    views: int = Field(default=4, ge=1, le=MOST_AT_ONCE)
    val_views: int = Field(default=1, ge=1, le=MOST_AT_ONCE)
    flip: float = Field(default=0.5, ge=0, le=1)
    # 4000 of 5715 images.
    meta_train: float = Field(default=0.7, gt=0, lt=1)

    finetune: bool = True
    finetune_width: int = Field(default=256, ge=32, le=WIDEST, multiple_of=32)
    finetune_training: TrainingRecipe = TrainingRecipe(
        iterations=12_000, steps=(8_000, 10_667), short_sides=(384,), max_long_side=640, test_short_side=384
    )

    # In a stage that searches the head alone: train the fixed FPN along with each candidate, or train it once
    # (by finetune_training) and cache its features (7.4.1: "pre-fetch").
    head_stage: Literal["train_fpn", "cached_fpn"] = "train_fpn"

    batch_size: int = Field(default=200, ge=1, le=MOST_AT_ONCE)
    iterations: int = Field(default=300, ge=1)
    learning_rate: float = Field(default=8e-4, gt=0)
    val_batch_size: int = Field(default=200, ge=1, le=MOST_AT_ONCE)
    # Minus the losses of meta-val (equation 7.2), or its AP (Fig. 7.9).
    reward: Literal["loss", "ap"] = "loss"
    # Measure AP beside the losses also where it is not the reward.
    measure_ap: bool = False

    @model_validator(mode="after")
    def _crop_fits(self) -> DetectionProxyRecipe:
        if self.crop > self.short_side:
            raise ValueError(
                f"crop <= short_side must hold, but got crop={self.crop}, short_side={self.short_side}"
            )
        return self

    @property
    def needs_ap(self) -> bool:
        """Whether AP is measured."""
        return self.measure_ap or self.reward == "ap"

    @property
    def interest_scale(self) -> float:
        """Sizes of interest are "scaled correspondingly": by the short side against full training's 800."""
        return self.short_side / 800
