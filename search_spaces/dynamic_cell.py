"""The search space of dynamic cells for video segmentation (thesis chapter 6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from nasperc.errors import InputError
from nasperc.models.features import FeatureSpec
from search_spaces.base import WIDEST, Architecture, BuildContext, Decision, Part, SearchSpace, Stage
from search_spaces.block import block_decisions
from search_spaces.block_order import read_before, smallest_order
from search_spaces.cell_aggregations import CELL_AGGREGATION_LABELS, CELL_SYMMETRIC
from search_spaces.cell_drawing import draw_cell
from search_spaces.cell_genotype import CELL_INPUTS, POOL, CellGenotype
from search_spaces.cell_module import SearchedCell
from search_spaces.diagram import Diagram
from search_spaces.operations import CELL_OPERATIONS, OPERATION_LABELS

PART = "cell"
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


class DynamicCell(SearchSpace):
    """One part, ``cell``: four or five layers of (id1, id2, op1, op2, agg).

    Ids name the five inputs (layer 4 and dec of the frame before, layers 2, 3 and 4 of this one), then the layers;
    operations are those of Table 6.1, aggregations those of Table 6.2. Everything is allowed: layers are sampled with
    replacement (6.3.2), and some result is always left for the output, which what no layer consumed becomes. There is
    no cell made by hand, so the part is never ``"original"``.
    """

    name: ClassVar[str] = "dynamic_cell"
    Recipe: ClassVar[type[BaseModel]] = DynamicCellRecipe
    proxy: ClassVar[str | None] = "video_segmentation"
    parts = (PART,)

    def __init__(self, recipe: BaseModel) -> None:
        assert isinstance(recipe, DynamicCellRecipe)
        self.recipe = recipe
        self.variant = recipe.variant
        self._decisions = block_decisions(
            PART,
            tuple(each.name for each in CELL_INPUTS),
            recipe.layers,
            tuple(OPERATION_LABELS[name] for name in CELL_OPERATIONS),
            CELL_AGGREGATION_LABELS,
        )

    def decisions(self, part: str) -> tuple[Decision, ...]:
        return self._decisions

    def validate(self, architecture: Architecture, *, where: str) -> None:
        super().validate(architecture, where=where)
        if isinstance(architecture.parts[PART], str):
            raise InputError(
                f"the part {PART} of {self.name} must be tokens",
                value=repr(architecture.parts[PART]),
                where=where,
                repair="There is no cell made by hand; the per-frame network alone is the baseline.",
            )

    def canonical(self, architecture: Architecture) -> Architecture:
        """Operands of the learnable sum and of the 3D convolution sorted, layers in their smallest order.

        The output's 1x1 convolution reads what is left in any order, so every topological order will do.
        """
        blocks = _genotype(architecture).blocks
        tokens = smallest_order(blocks, POOL, CELL_SYMMETRIC, read_before(blocks, POOL))
        return Architecture(architecture.space, architecture.version, architecture.variant, {PART: tokens})

    def stages(self) -> tuple[Stage, ...]:
        widths, overrides = {PART: self.recipe.width}, dict(self.recipe.overrides)
        return (Stage(PART, free=(PART,), fixed={}, widths=widths, overrides=overrides),)

    def build(
        self,
        architecture: Architecture,
        inputs: tuple[FeatureSpec, ...],
        widths: Mapping[str, int],
        context: BuildContext,
    ) -> dict[str, nn.Module]:
        """``cell`` of an architecture, a :class:`SearchedCell`.

        ``inputs``: the static network's ``cell_inputs``. ``widths``: ``cell``, channels of its blocks. Of the
        context, the number of classes. The classifier is left to be initialised from the static network's.
        """
        if set(widths) != {PART} or widths[PART] <= 0 or widths[PART] % 2:
            raise InputError(
                "the width of a dynamic cell is cell, an even number",
                value=dict(widths),
                where="cell width",
                repair="Choose for example 64.",
            )
        return {PART: SearchedCell(inputs, _genotype(architecture), widths[PART], context.num_classes)}

    def read_back(self, modules: Mapping[str, nn.Module]) -> dict[str, Part]:
        """The tokens of the built ``cell``.

        Raises:
            ValueError: modules that are no architecture of this space.
        """
        cell = modules[PART]
        if not isinstance(cell, SearchedCell):
            raise ValueError(f"{type(cell).__name__} is no part of {self.name}")
        return {PART: cell.read_back()}

    def draw(self, architecture: Architecture) -> Diagram:
        return draw_cell(f"{self.name}, {self.recipe.layers} layers", _genotype(architecture))


def _genotype(architecture: Architecture) -> CellGenotype:
    tokens = architecture.parts[PART]
    assert not isinstance(tokens, str)
    return CellGenotype.from_tokens(tokens)
