"""The bottom module: levels of backbone or neck in, bases out (thesis 4.3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from nasperc.errors import InputError
from nasperc.models.blendmask.deeplab_bottom import DeepLabBottom, DeepLabBottomRecipe
from nasperc.models.blendmask.protonet import ProtoNet, ProtoNetRecipe
from nasperc.models.features import FeatureSpec
from nasperc.models.named_levels import NamedLevels

BottomRecipe = Annotated[DeepLabBottomRecipe | ProtoNetRecipe, Field(discriminator="name")]
_WHERE = "recipe key blendmask.bottom.inputs"


class Bottom(nn.Module):
    """``forward(backbone levels, neck levels) -> bases (N, K, H / s, W / s)``; ``stride`` is s.

    Args:
        recipe: which module, on which levels.
        bases: K.
        backbone: what the backbone puts out.
        neck: what the neck puts out.

    Raises:
        InputError: neither backbone nor neck has a level of that name (P2, with a neck from P3 on), or the levels are
            not given from the finest one on.
    """

    def __init__(
        self,
        recipe: BottomRecipe,
        bases: int,
        backbone: tuple[FeatureSpec, ...],
        neck: tuple[FeatureSpec, ...],
    ) -> None:
        super().__init__()
        self._inputs = NamedLevels(recipe.inputs, backbone, neck, _WHERE)
        specs = self._inputs.specs
        strides = [spec.stride for spec in specs]
        if sorted(set(strides)) != strides:
            raise InputError(
                "the inputs of a bottom module must go from fine to coarse",
                value=", ".join(f"{spec.name} of stride {spec.stride}" for spec in specs),
                where=_WHERE,
                repair="Order them, each stride once.",
            )
        self.network: DeepLabBottom | ProtoNet
        if isinstance(recipe, DeepLabBottomRecipe):
            self.network = DeepLabBottom(recipe, specs, bases)
        else:
            self.network = ProtoNet(recipe, specs, bases)
        self.stride: int = self.network.stride

    def forward(self, backbone: Sequence[Tensor], neck: Sequence[Tensor]) -> Tensor:
        return self.network(self._inputs.of(backbone, neck))
