"""The top layer: attentions predicted at every location of the detection head (thesis 4.3.1)."""

from __future__ import annotations

from torch import Tensor, nn

from nasperc.errors import InputError
from nasperc.models.blendmask.recipe import TopLayerPlace
from nasperc.models.features import Head, HeadOutput


class TopLayer(nn.Module):
    """``forward(head output) -> list by level of (N, channels, H, W)``: one 3x3 convolution for all levels.

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
        self.conv = nn.Conv2d(head.out_channels, channels, 3, padding=1)
        nn.init.normal_(self.conv.weight, std=0.01)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, output: HeadOutput) -> list[Tensor]:
        towers = output.cls_tower if self.on_cls_tower else output.box_tower
        return [self.conv(tower) for tower in towers]
