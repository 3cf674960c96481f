"""The recipe section of the proxy task ``detection``; the defaults are the thesis's values (7.4.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from nasperc.errors import InputError
from nasperc.training.recipe import TrainingRecipe

# What cached records depend on: a stage may not override these.
CACHE_KEYS = frozenset(
    {
        "short_side",
        "crop",
        "views",
        "val_views",
        "flip",
        "meta_train",
        "dtype",
        "seed",
        "finetune",
        "finetune_width",
        "finetune_training",
        "head_stage",
    }
)


class DetectionProxyRecipe(BaseModel):
    """Crops, schedule and measurement of one candidate.

    A view is one random crop and flip of an image; ``meta_train`` is the share of the train split's images
    that candidates are trained on, the others give the reward. ``seed`` belongs to the split, the views and
    the fine-tuning, so that runs with different seeds share one cache.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    short_side: int = Field(default=384, ge=32)
    crop: int = Field(default=384, ge=32, multiple_of=32)
    views: int = Field(default=4, ge=1)
    val_views: int = Field(default=1, ge=1)
    flip: float = Field(default=0.5, ge=0, le=1)
    # 4000 of 5715 images.
    meta_train: float = Field(default=0.7, gt=0, lt=1)
    dtype: Literal["float16", "float32", "uint8"] = "float16"
    seed: int = Field(default=0, ge=0)

    finetune: bool = True
    finetune_width: int = Field(default=256, ge=32, multiple_of=32)
    finetune_training: TrainingRecipe = TrainingRecipe(
        iterations=12_000, steps=(8_000, 10_667), short_sides=(384,), max_long_side=640, test_short_side=384
    )

    # In a stage that searches the head alone: train the fixed FPN along with each candidate, or train it once
    # (by finetune_training) and cache its features (7.4.1: "pre-fetch").
    head_stage: Literal["train_fpn", "cached_fpn"] = "train_fpn"

    batch_size: int = Field(default=200, ge=1)
    iterations: int = Field(default=300, ge=1)
    learning_rate: float = Field(default=8e-4, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    gradient_clip: float | None = Field(default=None, gt=0)
    polyak: float = Field(default=0.9, ge=0, lt=1)
    # BatchNorm statistics of the averaged network are a mean over this many fixed meta-train batches.
    bn_batches: int = Field(default=10, ge=1)
    val_batch_size: int = Field(default=200, ge=1)
    # Minus the losses of meta-val (equation 7.2), or its AP (Fig. 7.9).
    reward: Literal["loss", "ap"] = "loss"
    # Measure AP beside the losses also where it is not the reward.
    measure_ap: bool = False
    # Measure at half of the iterations too, and stop below the candidate's threshold.
    early_stop: bool = True
    num_threads: int = Field(default=1, ge=1)
    # bfloat16 autocast; on CUDA only.
    mixed_precision: bool = True

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

    def for_stage(self, overrides: Mapping[str, Any]) -> DetectionProxyRecipe:
        """This recipe with a stage's keys replaced.

        Raises:
            InputError: unknown or ill-typed key, or one that the cache depends on.
        """
        if not overrides:
            return self
        cls = type(self)
        changed = sorted(CACHE_KEYS & set(overrides))
        if changed:
            raise InputError(
                "a stage must not override what the cache depends on",
                value=", ".join(changed),
                where="stage overrides",
                repair="Set it for the whole run, in the proxy section.",
            )
        try:
            return cls.model_validate({**self.model_dump(), **overrides})
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(
                "a stage override must be a key of the proxy recipe with a valid value",
                value=f"{'.'.join(map(str, first['loc']))}={first['input']!r} ({first['msg']})",
                where="stage overrides",
                repair=f"Known keys: {', '.join(key for key in cls.model_fields if key not in CACHE_KEYS)}.",
            ) from error
