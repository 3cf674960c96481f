"""The recipe section of a decoder that is not searched: one made by hand, or an architecture that was found."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from nasperc.assembly.detector import DEEPEST, Baseline, BaselineKind, Decoder, Searched
from nasperc.errors import InputError
from nasperc.models.necks.fpn import FCOS_ENDS, PyramidEnds
from nasperc.plain_files import parse_json, read_json
from search_spaces.base import WIDEST, SearchSpace


class DecoderRecipe(BaseModel):
    """``name``: a baseline, or ``searched`` with its ``architecture``: a file (.json), or the name of a package file
    under ``experiments``. Of baselines only: ``depth``, layers of a tower; ``ends``, the finest and the coarsest level
    of the pyramid; ``merged_tower``, one tower for class and box."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: BaselineKind | Literal["searched"] = "fpn-fcos"
    architecture: str | None = None
    fpn_width: int = Field(default=256, ge=32, le=WIDEST, multiple_of=32)
    head_width: int = Field(default=256, ge=32, le=WIDEST, multiple_of=32)
    depth: int = Field(default=4, ge=1, le=DEEPEST)
    ends: PyramidEnds = FCOS_ENDS
    merged_tower: bool = False

    @model_validator(mode="after")
    def _architecture_belongs_to_searched(self) -> Self:
        if (self.name == "searched") != (self.architecture is not None):
            raise ValueError("a decoder named searched has an architecture, and no other one has")
        return self

    @model_validator(mode="after")
    def _keys_fit_the_decoder(self) -> Self:
        if self.name == "searched" and self.ends != FCOS_ENDS:
            raise ValueError("a searched pyramid has the levels P3 to P7: leave ends away")
        if self.name in ("searched", "fpn-retinanet") and self.merged_tower:
            raise ValueError(f"the two towers of {self.name} cannot be merged: leave merged_tower away")
        return self


def recipe_decoder(recipe: DecoderRecipe, space: SearchSpace) -> Decoder:
    """The decoder of a recipe; ``space``: of its architecture.

    Raises:
        InputError: the architecture file is missing or unreadable, or none of the space; the space makes no decoder.
    """
    if recipe.name != "searched":
        return Baseline(
            recipe.fpn_width,
            recipe.head_width,
            recipe.depth,
            recipe.name,
            ends=recipe.ends,
            merged_tower=recipe.merged_tower,
        )
    assert recipe.architecture is not None
    values, where = _read(recipe.architecture)
    # An architecture file may say at which widths it was searched; the recipe's count.
    values.pop("widths", None)
    return Searched(space, space.from_dict(values, where=where), _widths(recipe, space))


def _widths(recipe: DecoderRecipe, space: SearchSpace) -> dict[str, int]:
    """Channels, by the parts that the space makes neck and head of."""
    neck, head = space.part_of("neck"), space.part_of("head")
    if neck is None or head is None:
        raise InputError(
            "the decoder of a detector must be of a space that makes neck and head",
            value=space.name,
            where="recipe key space.name",
            repair="Choose such a space, for example fcos_decoder.",
        )
    return {neck: recipe.fpn_width, head: recipe.head_width}


def _read(architecture: str) -> tuple[dict[str, Any], str]:
    in_package = not architecture.endswith(".json")
    where = f"package file {architecture}" if in_package else architecture
    try:
        if in_package:
            values = parse_json((resources.files("experiments") / f"{architecture}.json").read_bytes())
        else:
            values = read_json(Path(architecture))
    except (OSError, ValueError) as error:
        raise InputError(
            "the architecture of a decoder must be a readable JSON file",
            value=error,
            where=f"recipe key decoder.architecture: {where}",
            repair="Give a path that ends in .json, or the name of a package file such as nas_fcos_reference.",
        ) from error
    if not isinstance(values, dict):
        raise InputError(
            "an architecture must be a JSON object",
            value=type(values).__name__,
            where=where,
            repair="Write it anew with nasperc export architecture.",
        )
    return values, where
