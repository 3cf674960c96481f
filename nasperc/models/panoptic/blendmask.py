"""BlendMask for panoptic segmentation (thesis 4.4.4, Table 4.10)."""

from __future__ import annotations

from torch import nn

from nasperc.models.blendmask.model import BlendMask
from nasperc.models.blendmask.recipe import BlendMaskRecipe
from nasperc.models.panoptic.merge import MergeRecipe
from nasperc.models.panoptic.panoptic_fpn import PanopticFPN
from nasperc.models.panoptic.semantic_branch import SemanticBranchRecipe


class BlendMaskPanoptic(BlendMask, PanopticFPN):
    """BlendMask with the semantic branch of Panoptic-FPN beside it.

    Args:
        backbone, neck, head, recipe: as of :class:`BlendMask`.
        branch: of the semantic branch.
        merge: how instances and stuff become one.
        stuff: the number of classes of stuff.

    Raises:
        InputError: as of :class:`BlendMask` and :class:`SemanticBranch`.
    """

    def __init__(
        self,
        backbone: nn.Module,
        neck: nn.Module,
        head: nn.Module,
        recipe: BlendMaskRecipe,
        branch: SemanticBranchRecipe,
        merge: MergeRecipe,
        stuff: int,
    ) -> None:
        super().__init__(backbone, neck, head, recipe)
        self.add_branch(branch, merge, stuff)
