"""Recipe + searched part -> panoptic network: which models the task has."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from nasperc.assembly.detector import Decoder
from nasperc.assembly.recipe import ModelRecipe
from nasperc.models.blendmask.preset import blendmask_preset
from nasperc.models.fcos.model import FCOS
from nasperc.models.fcos.preset import FCOSPreset
from nasperc.models.panoptic.blendmask import BlendMaskPanoptic
from nasperc.models.panoptic.merge import MergeRecipe
from nasperc.models.panoptic.segmenter import PanopticSegmenter
from nasperc.models.panoptic.semantic_branch import SemanticBranchRecipe
from nasperc.tasks.detection.predict import View
from nasperc.tasks.instances.models import BLENDMASK, InstancesRecipe, SegmenterModel, build_chosen


class PanopticRecipe(InstancesRecipe):
    """What the instance segmenters have keys for; ``semantic_branch``, ``merge``: see :class:`SemanticBranchRecipe`,
    :class:`MergeRecipe`."""

    semantic_branch: SemanticBranchRecipe = SemanticBranchRecipe()
    merge: MergeRecipe = MergeRecipe()

    def chosen(self) -> str:
        """Of :data:`MODELS`."""
        return self.model or MODELS[0]

    def section(self) -> str:
        return _MODELS[self.chosen()].section

    def title(self) -> str:
        return _MODELS[self.chosen()].title

    def views(self) -> tuple[View, ...]:
        """None."""
        return ()


class PanopticModel(NamedTuple):
    """``title``, ``preset``: as of a :class:`SegmenterModel`; ``section``: the key of what its segmenter has of its
    own; ``make``: the model on the parts of a detector, for so many classes of stuff."""

    title: str
    section: str
    preset: Callable[[FCOSPreset, InstancesRecipe], FCOSPreset]
    make: Callable[[FCOS, PanopticRecipe, int], PanopticSegmenter]


def _blendmask(of: FCOS, options: PanopticRecipe, stuff: int) -> BlendMaskPanoptic:
    keys = options.blendmask, options.semantic_branch, options.merge
    return BlendMaskPanoptic(of.backbone, of.neck, of.head, *keys, stuff)


_MODELS = {
    "blendmask_panoptic": PanopticModel(
        "BlendMask-panoptic", BLENDMASK, lambda preset, _: blendmask_preset(preset), _blendmask
    )
}
MODELS = tuple(_MODELS)


def build_panoptic(
    model: ModelRecipe,
    options: PanopticRecipe,
    decoder: Decoder,
    things: int,
    stuff: int,
    *,
    load_weights: bool = True,
) -> PanopticSegmenter:
    """A panoptic network with the recipe's backbone, and a neck and a head that a search found or somebody made.

    Args:
        model: the backbone; the head's preset is that of ``options``.
        options: of the task.
        decoder: neck and head.
        things: the number of their classes.
        stuff: the number of its classes.
        load_weights: the backbone's; False when a checkpoint follows.

    Raises:
        InputError: weights cannot be used; widths, or a choice of the model that does not fit neck and head.
    """
    chosen = _MODELS[options.chosen()]
    on_parts = SegmenterModel(chosen.title, chosen.preset, lambda of, _: chosen.make(of, options, stuff))
    built = build_chosen(on_parts, model, options, decoder, things, load_weights=load_weights)
    assert isinstance(built, PanopticSegmenter)
    return built
