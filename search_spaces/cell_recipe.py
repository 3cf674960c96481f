"""The recipe section of the space ``dynamic_cell``."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from search_spaces.base import WIDEST

_SUFFIX = "_layers"


class DynamicCellRecipe(BaseModel):
    """How the dynamic cell is searched.

    ``variant``: how many layers (blocks) the controller emits; the thesis has ``5_layers`` on CamVid and
    ``4_layers`` on Cityscapes. ``width``: channels of the blocks, even (two deformable groups). ``overrides``:
    proxy recipe keys.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    variant: str = Field(default=f"5{_SUFFIX}", pattern=f"^[1-9]{_SUFFIX}$")
    width: int = Field(default=64, gt=0, le=WIDEST, multiple_of=2)
    overrides: dict[str, Any] = Field(default_factory=dict)

    @property
    def layers(self) -> int:
        """Number of layers."""
        return int(self.variant.removesuffix(_SUFFIX))
