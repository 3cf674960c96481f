"""The recipe part that says which data set is read, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from nasperc.data.image_rules import ImageRules
from nasperc.limits import LONGEST_NAME, LONGEST_SIDE, MOST_AT_ONCE

_Side = Annotated[int, Field(ge=1, le=LONGEST_SIDE)]
_Size = tuple[_Side, _Side]
_Split = Annotated[str, Field(max_length=LONGEST_NAME)]
# Of a layout: recognised by its markers.
AUTO = "auto"


def _known_format(name: str) -> str:
    # The readers need packages that whoever has no data set does without.
    from nasperc.data.formats import known_format

    return known_format(name)


class SyntheticRecipe(BaseModel):
    """The synthetic data set: images by split, ``size`` (H, W) in pixels, seed of all its random numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    train: int = Field(default=48, ge=2)
    val: int = Field(default=16, ge=1)
    test: int = Field(default=16, ge=1)
    size: _Size = (256, 256)
    seed: int = Field(default=0, ge=0)


class SyntheticVideoRecipe(BaseModel):
    """The synthetic video data set: videos by split, frames of each, ``size`` (H, W), seed of all random numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    train: int = Field(default=8, ge=2)
    val: int = Field(default=2, ge=1)
    test: int = Field(default=2, ge=1)
    frames: int = Field(default=12, ge=2, le=MOST_AT_ONCE)
    size: _Size = (128, 160)
    seed: int = Field(default=0, ge=0)


class DataRecipe(ImageRules):
    """Which data set, and how its images are read. The search sees the train split only; val selects, test reports."""

    path: Path | None = None
    """Folder in one of the layouts of ``formats.py``; None is the synthetic data set of the task."""
    format: Annotated[str, AfterValidator(_known_format)] = AUTO
    classes: Path | None = None
    """File with one class name a line; None is the sorted names of the train split, or what a video layout says."""
    one_class: bool = False
    """Every object is one "object", whatever its category."""
    annotations: Path | None = None
    """A file in COCO's instances format in place of the data set's own annotations wherever a split is measured (val
    and test, not train); its images are looked for by their names where those of the split lie."""
    strict: bool = False
    """Degenerate boxes, boxes that reach outside their image and areas that are no numbers above 0 are errors."""
    train_split: _Split = "train"
    val_split: _Split = "val"
    test_split: _Split = "test"
    synthetic: SyntheticRecipe = SyntheticRecipe()
    """Used where ``path`` is None and the task needs boxes."""
    synthetic_video: SyntheticVideoRecipe = SyntheticVideoRecipe()
    """Used where ``path`` is None and the task needs videos."""

    @property
    def images(self) -> ImageRules:
        """How images are read, alone."""
        return ImageRules(range=self.range, exif=self.exif)
