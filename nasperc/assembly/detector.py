"""Recipe + architecture -> detector: the one place where a searched part meets a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from nasperc.assembly.recipe import ModelRecipe
from nasperc.models.backbones.build import build_backbone
from nasperc.models.backbones.weights import load_backbone_weights
from nasperc.models.fcos import FCOS
from nasperc.models.features import FeatureSpec
from nasperc.models.heads.fcos_head import FCOSHead
from nasperc.models.heads.preset import FCOSPreset
from nasperc.models.heads.towers import FCOSTowers
from nasperc.models.necks.fpn import FPN
from search_spaces.base import Architecture, BuildContext, SearchSpace


@dataclass(frozen=True)
class Baseline:
    """FPN-FCOS: the hand-made decoder that every comparison has as a row. Widths in channels, depth in layers."""

    fpn_width: int = 256
    head_width: int = 256
    depth: int = 4


@dataclass(frozen=True)
class Searched:
    """A decoder from a search space, at the given widths."""

    space: SearchSpace
    architecture: Architecture
    widths: Mapping[str, int]


Decoder = Baseline | Searched


def build_decoder(
    decoder: Decoder, inputs: tuple[FeatureSpec, ...], num_classes: int, preset: FCOSPreset
) -> dict[str, nn.Module]:
    """``neck`` and ``head`` on backbone features ``inputs``."""
    if isinstance(decoder, Baseline):
        neck = FPN(inputs, decoder.fpn_width)
        towers = FCOSTowers(decoder.fpn_width, decoder.head_width, decoder.depth)
        return {"neck": neck, "head": FCOSHead(towers, num_classes, preset, neck.out)}
    context = BuildContext(num_classes=num_classes, preset=preset)
    return decoder.space.build(decoder.architecture, inputs, decoder.widths, context)


def build_detector(
    model: ModelRecipe, decoder: Decoder, num_classes: int, *, load_weights: bool = True
) -> FCOS:
    """A detector with the recipe's backbone; ``load_weights`` False when a checkpoint follows.

    Raises:
        InputError: backbone weights missing, unreadable or of another architecture; widths that do not fit.
    """
    backbone = build_backbone(model.backbone)
    if load_weights and model.backbone.weights is not None:
        load_backbone_weights(backbone, model.backbone.weights)
    inputs: tuple[FeatureSpec, ...] = backbone.out  # type: ignore[assignment]
    parts = build_decoder(decoder, inputs, num_classes, model.head_preset())
    return FCOS(backbone, parts["neck"], parts["head"])
