"""Recipe + architecture -> segmentation networks: the one place where a searched cell meets a per-frame network."""

from __future__ import annotations

from nasperc.assembly.detector import Searched
from nasperc.assembly.recipe import ModelRecipe
from nasperc.errors import InputError
from nasperc.models.backbones.build import build_backbone
from nasperc.models.backbones.weights import load_backbone_weights
from nasperc.models.decoders.build import build_segmenter
from nasperc.models.segmenter import Segmenter, StaticSegmenter
from nasperc.models.video_segmenter import VideoSegmenter, initialise_classifier
from search_spaces.base import BuildContext

# The module that a space of dynamic cells builds.
CELL = "cell"


def build_static(
    model: ModelRecipe, num_classes: int, *, load_weights: bool, auxiliary: bool = False
) -> Segmenter:
    """The per-frame network of a recipe.

    Args:
        model: names backbone and segmentation decoder.
        num_classes: K.
        load_weights: the backbone's; False when a checkpoint follows.
        auxiliary: with auxiliary classifiers, which serve training only.

    Raises:
        InputError: backbone weights missing, unreadable or of another architecture; a backbone that does not fit.
    """
    backbone = build_backbone(model.backbone)
    if load_weights and model.backbone.weights is not None:
        load_backbone_weights(backbone, model.backbone.weights)
    return build_segmenter(model.segmentation_decoder, backbone, num_classes, auxiliary=auxiliary)


def build_video(
    model: ModelRecipe, searched: Searched, num_classes: int, static: StaticSegmenter
) -> VideoSegmenter:
    """A dynamic cell on ``static``, which becomes part of the network as it is; its classifier starts as a copy.

    Raises:
        InputError: the space makes no cell, or one of other channels or classes; widths that do not fit.
    """
    if searched.space.part_of(CELL) is None:
        raise InputError(
            "a video segmenter needs an architecture of a space of dynamic cells",
            value=searched.space.name,
            where="architecture",
            repair="Give one of the space dynamic_cell.",
        )
    context = BuildContext(num_classes)
    cell = searched.space.build(searched.architecture, static.cell_inputs, searched.widths, context)[CELL]
    initialise_classifier(cell, static.classifier)
    return VideoSegmenter(static, cell)
