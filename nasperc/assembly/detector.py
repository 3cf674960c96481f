"""Recipe + architecture -> detector: the one place where a searched part meets a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import nn

from nasperc.assembly.recipe import ModelRecipe
from nasperc.models.backbones.build import build_backbone
from nasperc.models.backbones.weights import load_backbone_weights
from nasperc.models.detector import Detector
from nasperc.models.fcos.head import FCOSHead
from nasperc.models.fcos.model import FCOS
from nasperc.models.fcos.preset import FCOSPreset
from nasperc.models.fcos.towers import FCOSTowers
from nasperc.models.features import FeatureSpec
from nasperc.models.necks.deform_fpn import DeformFPN
from nasperc.models.necks.fpn import FCOS_ENDS, FPN, PyramidEnds
from nasperc.models.retinanet.head import RetinaNetHead
from nasperc.models.retinanet.model import RetinaNet
from search_spaces.base import Architecture, BuildContext, SearchSpace

# Layers of a tower; a file may ask for any number.
DEEPEST = 64
# Of the finest level that a head looks at: a P2 is for what reads the pyramid beside it.
_HEAD_STRIDE = 8

BaselineKind = Literal["fpn-fcos", "deform-fpn-fcos", "fpn-retinanet"]
# As the thesis calls them.
BASELINE_NAMES: dict[BaselineKind, str] = {
    "fpn-fcos": "FPN-FCOS",
    "deform-fpn-fcos": "DeformFPN-FCOS",
    "fpn-retinanet": "FPN-RetinaNet",
}
# What the parts of a baseline are called where widths are given for each.
BASELINE_PARTS = ("fpn", "head")


@dataclass(frozen=True)
class Baseline:
    """A decoder made by hand: what every comparison has as a row. Widths in channels, depth in layers of a tower.

    ``anchor_scale``: of the anchors of FPN-RetinaNet, see :class:`RetinaNet`. ``ends``: of the pyramid; the levels of
    the head begin with P3, whether or not there is a P2. ``merged_tower``: of FCOS, see :class:`FCOSTowers`.
    """

    fpn_width: int = 256
    head_width: int = 256
    depth: int = 4
    kind: BaselineKind = "fpn-fcos"
    anchor_scale: float = 1.0
    ends: PyramidEnds = FCOS_ENDS
    merged_tower: bool = False

    @property
    def widths(self) -> dict[str, int]:
        """Channels, by :data:`BASELINE_PARTS`."""
        return dict(zip(BASELINE_PARTS, (self.fpn_width, self.head_width), strict=True))


@dataclass(frozen=True)
class Searched:
    """A decoder from a search space, at the given widths."""

    space: SearchSpace
    architecture: Architecture
    widths: Mapping[str, int]


Decoder = Baseline | Searched


@dataclass(frozen=True)
class FCOSContext(BuildContext):
    """Of detectors with the head of FCOS."""

    preset: FCOSPreset

    def head(self, towers: nn.Module, levels: tuple[FeatureSpec, ...]) -> FCOSHead:
        return FCOSHead(towers, self.num_classes, self.preset, levels)


def build_decoder(
    decoder: Decoder, inputs: tuple[FeatureSpec, ...], num_classes: int, preset: FCOSPreset
) -> dict[str, nn.Module]:
    """``neck`` and ``head`` on backbone features ``inputs``."""
    if isinstance(decoder, Baseline):
        fpn = DeformFPN if decoder.kind == "deform-fpn-fcos" else FPN
        neck = fpn(inputs, decoder.fpn_width, ends=decoder.ends)
        levels = tuple(spec for spec in neck.out if spec.stride >= _HEAD_STRIDE)
        sizes = (decoder.fpn_width, decoder.head_width, decoder.depth)
        if decoder.kind == "fpn-retinanet":
            return {"neck": neck, "head": RetinaNetHead(*sizes, num_classes, levels)}
        towers = FCOSTowers(*sizes, merged=decoder.merged_tower)
        return {"neck": neck, "head": FCOSHead(towers, num_classes, preset, levels)}
    context = FCOSContext(num_classes, preset)
    return decoder.space.build(decoder.architecture, inputs, decoder.widths, context)


def build_detector(
    model: ModelRecipe, decoder: Decoder, num_classes: int, *, load_weights: bool = True
) -> Detector:
    """A detector with the recipe's backbone; ``load_weights`` False when a checkpoint follows.

    Raises:
        InputError: backbone weights missing, unreadable or of another architecture; widths that do not fit.
    """
    backbone = build_backbone(model.backbone)
    if load_weights and model.backbone.weights is not None:
        load_backbone_weights(backbone, model.backbone.weights)
    inputs: tuple[FeatureSpec, ...] = backbone.out  # type: ignore[assignment]
    preset = model.head_preset()
    parts = build_decoder(decoder, inputs, num_classes, preset)
    if isinstance(decoder, Baseline) and decoder.kind == "fpn-retinanet":
        return RetinaNet(backbone, parts["neck"], parts["head"], decoder.anchor_scale, preset.crowd)
    return FCOS(backbone, parts["neck"], parts["head"])
