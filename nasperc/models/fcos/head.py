"""The FCOS head: predictors on two towers (Tian et al. 2019; thesis 7.3.1)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasperc.errors import InputError
from nasperc.models.fcos.preset import FCOSPreset
from nasperc.models.features import FeatureSpec, HeadOutput


class FCOSHead(nn.Module):
    """``forward(levels) -> HeadOutput``: class logits, boxes in input pixels, centerness at every location.

    The three 3x3 predictors are shared by all levels. The towers are given ready made (the original ones or
    searched ones) and keep their own initialisation.

    Args:
        towers: module with ``out_channels`` and ``forward(levels) -> (cls_tower, box_tower)``.
        num_classes: K, without background.
        preset: the differences between implementations.
        levels: what the neck puts out.

    Raises:
        InputError: the preset does not have one size of interest for each level.
    """

    def __init__(
        self, towers: nn.Module, num_classes: int, preset: FCOSPreset, levels: tuple[FeatureSpec, ...]
    ) -> None:
        super().__init__()
        if len(preset.sizes_of_interest) != len(levels):
            raise InputError(
                "the head needs one size of interest for each level",
                value=f"{len(preset.sizes_of_interest)} sizes, {len(levels)} levels",
                where="recipe key model.preset_overrides.sizes_of_interest",
                repair="Give as many (low, high) pairs as the neck has levels.",
            )
        width = towers.out_channels
        assert isinstance(width, int)
        self.towers = towers
        self.out_channels = width
        self.num_classes = num_classes
        self.preset = preset
        self.levels = levels
        self.class_logits = nn.Conv2d(width, num_classes, 3, padding=1)
        self.box = nn.Conv2d(width, 4, 3, padding=1)
        self.centerness = nn.Conv2d(width, 1, 3, padding=1)
        for conv in (self.class_logits, self.box, self.centerness):
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        # With rare positives, starting from probability 0.5 would let the background drown the first steps.
        prior = preset.class_prior
        nn.init.constant_(self.class_logits.bias, -math.log((1 - prior) / prior))  # type: ignore[arg-type]
        self.scales = nn.Parameter(torch.ones(len(levels))) if preset.level_scales else None

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride of each level in input pixels."""
        return tuple(spec.stride for spec in self.levels)

    def forward(self, levels: list[Tensor]) -> HeadOutput:
        cls_tower, box_tower = self.towers(levels)
        centerness_tower = cls_tower if self.preset.centerness_on == "cls_tower" else box_tower
        return HeadOutput(
            cls_tower=cls_tower,
            box_tower=box_tower,
            class_logits=[self.class_logits(x) for x in cls_tower],
            boxes=[self._decode(self.box(x), level) for level, x in enumerate(box_tower)],
            centerness=[self.centerness(x) for x in centerness_tower],
        )

    def _decode(self, raw: Tensor, level: int) -> Tensor:
        """Distances in input pixels from the box predictor's output (N, 4, H, W)."""
        if self.scales is not None:
            raw = raw * self.scales[level]
        distances = raw.exp() if self.preset.box_activation == "exp" else F.relu(raw)
        return distances * self.levels[level].stride if self.preset.box_unit == "stride" else distances
