"""How the pixels of image files are read: values beyond 8 bits, and the orientation that a camera noted."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, FiniteFloat, field_validator


class ImageRules(BaseModel):
    """Keys of the recipe's data section that change what an image shows. They hold for every reader of a data set and
    stand in checkpoints and caches; the defaults are what both meant before they had these keys.

    Label maps are read by none of them: their values are ids, and they belong to the picture as it is read.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    range: tuple[FiniteFloat, FiniteFloat] | None = None
    """[LO, HI] of grey images of 16 or 32 bits, integers or floats: LO becomes black, HI white, linear between, clipped
    beyond. None refuses such images. Images of 8 bits stay as they are, whatever it says; of colours of 16 bits the
    upper 8 are read."""
    exif: Literal["ignore", "apply", "refuse"] = "ignore"
    """Of images with an EXIF orientation: as they are stored (where VOC and COCO boxes are drawn on these pixels),
    turned upright (where they are drawn on the picture as a viewer shows it), or an error."""

    @field_validator("range")
    @classmethod
    def _ascending(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not 0 < value[1] - value[0] < math.inf:
            raise ValueError("LO must be below HI, by a finite difference")
        return value


AS_STORED = ImageRules()
