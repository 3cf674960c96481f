"""The search space of NAS-FCOS (thesis chapter 7): the FPN and the head of an FCOS detector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import BaseModel
from torch import nn

from nasperc.errors import InputError
from nasperc.models.fcos.towers import FCOSTowers
from nasperc.models.features import FeatureSpec
from nasperc.models.necks.fpn import FPN
from search_spaces.aggregations import AGGREGATION_LABELS
from search_spaces.base import (
    ORIGINAL,
    WIDEST,
    Architecture,
    BuildContext,
    Decision,
    Part,
    SearchSpace,
    Stage,
    Tokens,
)
from search_spaces.block import FIELDS, block_decisions
from search_spaces.diagram import Diagram
from search_spaces.fcos_canonical import canonical_fpn, canonical_head
from search_spaces.fcos_drawing import draw_decoder
from search_spaces.fcos_genotype import (
    BLOCKS,
    HEAD_LAYERS,
    MAX_CONSUMED,
    POOL,
    FPNGenotype,
    HeadGenotype,
)
from search_spaces.fcos_neck import SearchedFPN
from search_spaces.fcos_recipe import WIDTH_STEP, FcosDecoderRecipe, StageName
from search_spaces.fcos_towers import SearchedTowers
from search_spaces.operations import FPN_OPERATIONS, HEAD_OPERATIONS, OPERATION_LABELS


class FcosDecoder(SearchSpace):
    """FPN and head of FCOS.

    Part ``fpn``: seven blocks of (id1, id2, op1, op2, agg), 35 tokens. Ids name the backbone features (C2 to
    C5, or C3 to C5 in the variant ``thesis``), then the blocks; operations are those of Table 7.1,
    aggregation 0 is the sum, 1 the concatenation. Part ``head``: six operations and the share index, 7
    tokens.

    In ``nas_fcos`` at least three blocks must be left for P3..P5 that no other consumes.
    """

    name: ClassVar[str] = "fcos_decoder"
    Recipe: ClassVar[type[BaseModel]] = FcosDecoderRecipe
    parts = ("fpn", "head")
    made_of: ClassVar[Mapping[str, str]] = {"neck": "fpn"}

    def __init__(self, recipe: BaseModel) -> None:
        assert isinstance(recipe, FcosDecoderRecipe)
        self.recipe = recipe
        self.variant = recipe.variant
        self._pool = POOL[recipe.variant]
        self._decisions = {"fpn": self._fpn_decisions(), "head": self._head_decisions()}

    def _fpn_decisions(self) -> tuple[Decision, ...]:
        operations = tuple(OPERATION_LABELS[name] for name in FPN_OPERATIONS)
        return block_decisions("fpn", self._pool, BLOCKS, operations, AGGREGATION_LABELS)

    def _head_decisions(self) -> tuple[Decision, ...]:
        operations = tuple(OPERATION_LABELS[name] for name in HEAD_OPERATIONS[self.recipe.variant])
        layers = [Decision(f"head.op{layer}", "head_op", operations) for layer in range(1, HEAD_LAYERS + 1)]
        share = Decision("head.share", "share", tuple(str(index) for index in range(HEAD_LAYERS + 1)))
        return (*layers, share)

    def decisions(self, part: str) -> tuple[Decision, ...]:
        return self._decisions[part]

    def allowed(self, part: str, prefix: Tokens) -> tuple[bool, ...]:
        decision = self._decisions[part][len(prefix)]
        everything = (True,) * len(decision.choices)
        if decision.kind != "input" or self.variant == "thesis":
            return everything
        pool = len(self._pool)
        consumed = {
            token - pool
            for position, token in enumerate(prefix)
            if position % FIELDS in (0, 1) and token >= pool
        }
        if len(consumed) < MAX_CONSUMED:
            return everything
        # Backbone features may always be read, so no prefix is a dead end.
        return tuple(source < pool or source - pool in consumed for source in range(len(decision.choices)))

    def canonical(self, architecture: Architecture) -> Architecture:
        """See :mod:`search_spaces.fcos_canonical`."""
        parts: dict[str, Part] = dict(architecture.parts)
        for part, canonical in (("fpn", canonical_fpn), ("head", canonical_head)):
            tokens = parts[part]
            if not isinstance(tokens, str):
                parts[part] = canonical(tokens, self.recipe.variant)
        return Architecture(architecture.space, architecture.version, architecture.variant, parts)

    def stages(self) -> tuple[Stage, ...]:
        fpn, head = self.recipe.shares
        if self.recipe.mode == "progressive":
            return (
                self._stage("fpn", {"head": ORIGINAL}, share=fpn),
                self._stage("head", {"fpn": "best"}, share=head),
            )
        if self.recipe.mode == "fpn":
            return (self._stage("fpn", {"head": ORIGINAL}),)
        if self.recipe.mode == "head":
            return (self._stage("head", {"fpn": ORIGINAL}),)
        return (self._stage("joint", {}),)

    def _stage(
        self, name: StageName, fixed: Mapping[str, Part | Literal["best"]], share: float = 1.0
    ) -> Stage:
        return Stage(
            name=name,
            free=tuple(part for part in self.parts if part not in fixed),
            fixed=dict(fixed),
            widths=self.recipe.widths(name),
            share=share,
            overrides=dict(self.recipe.overrides.get(name, {})),
        )

    def build(
        self,
        architecture: Architecture,
        inputs: tuple[FeatureSpec, ...],
        widths: Mapping[str, int],
        context: BuildContext,
    ) -> dict[str, nn.Module]:
        """``neck`` (backbone features -> P3..P7) and ``head`` of an architecture.

        ``widths``: ``fpn`` and ``head``; a wider head gets P3..P5 widened without parameters.
        """
        fpn_width, head_width = _checked_widths(widths)
        fpn, head = architecture.parts["fpn"], architecture.parts["head"]
        neck: FPN | SearchedFPN
        if isinstance(fpn, str):
            neck = FPN(inputs, fpn_width, head_width)
        else:
            genotype = FPNGenotype.from_tokens(fpn, self.recipe.variant)
            neck = SearchedFPN(inputs, genotype, fpn_width, head_width)
        towers: nn.Module
        if isinstance(head, str):
            towers = FCOSTowers(head_width, head_width, depth=4)
        else:
            towers = SearchedTowers(head_width, HeadGenotype.from_tokens(head), self.recipe.variant)
        return {"neck": neck, "head": context.head(towers, neck.out)}

    def read_back(self, modules: Mapping[str, nn.Module]) -> dict[str, Part]:
        """The tokens of the built ``neck`` and ``head``.

        Raises:
            ValueError: modules that are no architecture of this space.
        """
        neck, towers = modules["neck"], modules["head"].towers
        if not isinstance(neck, FPN | SearchedFPN) or not isinstance(towers, FCOSTowers | SearchedTowers):
            raise ValueError(f"{type(neck).__name__} and {type(towers).__name__} are no parts of {self.name}")
        return {
            "fpn": neck.read_back() if isinstance(neck, SearchedFPN) else ORIGINAL,
            "head": towers.read_back() if isinstance(towers, SearchedTowers) else ORIGINAL,
        }

    def draw(self, architecture: Architecture) -> Diagram:
        return draw_decoder(architecture, self.recipe.variant)


def _checked_widths(widths: Mapping[str, int]) -> tuple[int, int]:
    expected = {"fpn", "head"}
    good = all(0 < width <= WIDEST and width % WIDTH_STEP == 0 for width in widths.values())
    if set(widths) != expected or not good:
        raise InputError(
            f"the widths of fcos_decoder are fpn and head, multiples of {WIDTH_STEP}",
            value=dict(widths),
            where="decoder widths",
            repair="Choose for example 128 or 128-256.",
        )
    return widths["fpn"], widths["head"]
