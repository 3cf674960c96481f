"""The recipe section of costs: for which input they are stated."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from nasperc.limits import LONGEST_SIDE, MOST_CLASSES

Side = Annotated[int, Field(ge=32, le=LONGEST_SIDE, multiple_of=32)]


class CostRecipe(BaseModel):
    """Defaults: thesis Table 7.2. ``size`` (H, W) in pixels; ``classes`` of objects, without background; ``stuff``:
    classes of a panoptic network beside them, COCO's.

    ``unused_adapters``: run the adapters of a searched FPN that nothing reads, as the NAS-FCOS release does. A decoder
    built here leaves them out; the figures of Table 7.2 hold them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    classes: int = Field(default=80, ge=1, le=MOST_CLASSES)
    size: tuple[Side, Side] = (800, 1088)
    stuff: int = Field(default=53, ge=1, le=MOST_CLASSES)
    unused_adapters: bool = False
