"""The part of a recipe section that all proxy tasks which train on a feature cache share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nasperc.errors import InputError
from nasperc.limits import MOST_AT_ONCE


class CachedTaskRecipe(BaseModel):
    """Training and measurement of one candidate.

    ``seed`` belongs to what is prepared (split, views, fine-tuning), so that runs with different seeds share one
    cache. ``cache_keys``: what cached records depend on; a stage may not override these.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cache_keys: ClassVar[frozenset[str]] = frozenset({"dtype", "seed"})

    dtype: Literal["float16", "float32", "uint8"] = "float16"
    seed: int = Field(default=0, ge=0)

    batch_size: int = Field(ge=1, le=MOST_AT_ONCE)
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    gradient_clip: float | None = Field(default=None, gt=0)
    polyak: float = Field(default=0.9, ge=0, lt=1)
    # BatchNorm statistics of the averaged network are a mean over this many fixed meta-train batches.
    bn_batches: int = Field(default=10, ge=1, le=MOST_AT_ONCE)
    val_batch_size: int = Field(ge=1, le=MOST_AT_ONCE)
    # Measure at half of the iterations too, and stop below the candidate's threshold.
    early_stop: bool = True
    num_threads: int = Field(default=1, ge=1, le=MOST_AT_ONCE)
    # bfloat16 autocast; on CUDA only.
    mixed_precision: bool = True

    def for_stage(self, overrides: Mapping[str, Any]) -> Self:
        """This recipe with a stage's keys replaced.

        Raises:
            InputError: unknown or ill-typed key, or one that the cache depends on.
        """
        if not overrides:
            return self
        cls = type(self)
        changed = sorted(cls.cache_keys & set(overrides))
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
                repair=f"Known keys: {', '.join(key for key in cls.model_fields if key not in cls.cache_keys)}.",
            ) from error
