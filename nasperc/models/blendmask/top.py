"""The top layer: attentions predicted at the locations of the detection head (thesis 4.3.1)."""

from __future__ import annotations

from torch import nn

from nasperc.errors import InputError
from nasperc.models.blendmask.recipe import TopLayerPlace
from nasperc.models.features import Head, HeadOutput
from nasperc.models.gather import ConvMaps
from nasperc.ops.patch_conv import PatchConv2d


class TopLayer(nn.Module):
    """``forward(head output) -> maps by level of (N, channels, H, W)``: one 3x3 convolution for all levels, computed
    where the maps are looked at.

    Args:
        head: the detection head.
        channels: K * M * M.
        place: the tower of the head that it stands on.

    Raises:
        InputError: ``place`` is the merged tower of a head that has two.
    """

    def __init__(self, head: Head, channels: int, place: TopLayerPlace) -> None:
        super().__init__()
        if place == "merged_tower" and not getattr(head.towers, "merged", False):
            raise InputError(
                "a top layer on a merged tower needs a head with one tower for class and box",
                value=f"a head with two ({type(head.towers).__name__})",
                where="recipe key blendmask.top_layer_on",
                repair="Choose box_tower or cls_tower; a decoder that is not searched can be merged: "
                "set decoder.merged_tower to true.",
            )
        self.on_cls_tower = place == "cls_tower"
        self.conv = PatchConv2d(head.out_channels, channels, 3)
        nn.init.normal_(self.conv.weight, std=0.01)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, output: HeadOutput) -> ConvMaps:
        return ConvMaps(output.cls_tower if self.on_cls_tower else output.box_tower, self.conv)
