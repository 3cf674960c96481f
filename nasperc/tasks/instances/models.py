"""Recipe + searched part -> instance segmenter: which models the task has, and what each adds to a detector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from pydantic import Field

from nasperc.assembly.detector import Baseline, Decoder, build_detector
from nasperc.assembly.recipe import ModelRecipe
from nasperc.errors import InputError
from nasperc.models.blendmask.model import BlendMask
from nasperc.models.blendmask.preset import blendmask_preset
from nasperc.models.blendmask.recipe import BlendMaskRecipe
from nasperc.models.dr1mask.model import DR1Mask
from nasperc.models.dr1mask.recipe import DR1MaskRecipe
from nasperc.models.fcos.model import FCOS
from nasperc.models.fcos.preset import FCOSPreset, get_preset
from nasperc.models.instance_segmenter import InstanceSegmenter
from nasperc.models.smalmask.model import SmalMask
from nasperc.models.smalmask.preset import smalmask_preset
from nasperc.models.smalmask.recipe import SmalMaskRecipe
from nasperc.models.smalmask2.model import SmalMask2
from nasperc.models.smalmask2.recipe import SmalMask2Recipe
from nasperc.tasks.base import TaskRecipe


class InstancesRecipe(TaskRecipe):
    """``preset``, ``preset_overrides``: of the detection head, in place of the search's, which is rewarded as a
    detector; of the models: see :class:`BlendMaskRecipe`, :class:`DR1MaskRecipe`, :class:`SmalMaskRecipe`,
    :class:`SmalMask2Recipe`."""

    preset: str = "adelaidet"
    preset_overrides: dict[str, Any] = Field(default_factory=dict)
    blendmask: BlendMaskRecipe = BlendMaskRecipe()
    dr1mask: DR1MaskRecipe = DR1MaskRecipe()
    smalmask: SmalMaskRecipe = SmalMaskRecipe()
    smalmask2: SmalMask2Recipe = SmalMask2Recipe()

    def chosen(self) -> str:
        """Of :data:`MODELS`."""
        return self.model or MODELS[0]


class SegmenterModel(NamedTuple):
    """``preset``: of the detection head, with what the model's public code has otherwise; ``make``: the model on the
    parts of a detector."""

    preset: Callable[[FCOSPreset, InstancesRecipe], FCOSPreset]
    make: Callable[[FCOS, InstancesRecipe], InstanceSegmenter]


BLENDMASK = "blendmask"

_MODELS = {
    BLENDMASK: SegmenterModel(
        lambda preset, _: blendmask_preset(preset),
        lambda of, options: BlendMask(of.backbone, of.neck, of.head, options.blendmask),
    ),
    # 5.5.1: "all hyperparameters are set to be the same with BlendMask".
    "dr1mask": SegmenterModel(
        lambda preset, _: blendmask_preset(preset),
        lambda of, options: DR1Mask(of.backbone, of.neck, of.head, options.dr1mask),
    ),
    # 3.5: "all hyper-parameters are set to be the same with FCOS".
    "smalmask": SegmenterModel(
        lambda preset, options: smalmask_preset(preset, options.smalmask),
        lambda of, options: SmalMask(of.backbone, of.neck, of.head, options.smalmask),
    ),
    "smalmask2": SegmenterModel(
        lambda preset, _: preset,
        lambda of, options: SmalMask2(of.backbone, of.neck, of.head, options.smalmask2),
    ),
}
MODELS = tuple(_MODELS)


def build_segmenter(
    model: ModelRecipe,
    options: InstancesRecipe,
    decoder: Decoder,
    num_classes: int,
    *,
    load_weights: bool = True,
) -> InstanceSegmenter:
    """A segmenter with the recipe's backbone, and a neck and a head that a search found or that were made by hand.

    Args:
        model: the backbone; the head's preset is that of ``options``.
        options: of the task.
        decoder: neck and head.
        num_classes: K.
        load_weights: the backbone's; False when a checkpoint follows.

    Raises:
        InputError: weights cannot be used; widths, or a choice of the model that does not fit neck and head.
    """
    if isinstance(decoder, Baseline) and decoder.kind == "fpn-retinanet":
        raise InputError(
            "an instance segmenter needs an FCOS head",
            value=decoder.kind,
            where="recipe key baselines",
            repair="Leave it out; fpn-fcos and deform-fpn-fcos have one.",
        )
    chosen = _MODELS[options.chosen()]
    # What was typed comes last.
    keys = {**chosen.preset(get_preset(options.preset), options).model_dump(), **options.preset_overrides}
    wired = model.model_copy(update={"preset": options.preset, "preset_overrides": keys})
    detector = build_detector(wired, decoder, num_classes, load_weights=load_weights)
    assert isinstance(detector, FCOS)
    return chosen.make(detector, options)
