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
from nasperc.models.fcos.model import FCOS
from nasperc.models.fcos.preset import FCOSPreset, get_preset
from nasperc.models.instance_segmenter import InstanceSegmenter
from nasperc.tasks.base import TaskRecipe


class InstancesRecipe(TaskRecipe):
    """``preset``, ``preset_overrides``: of the detection head, in place of the search's, which is rewarded as a
    detector; ``blendmask``: see :class:`BlendMaskRecipe`."""

    preset: str = "adelaidet"
    preset_overrides: dict[str, Any] = Field(default_factory=dict)
    blendmask: BlendMaskRecipe = BlendMaskRecipe()

    def chosen(self) -> str:
        """Of :data:`MODELS`."""
        return self.model or MODELS[0]


class SegmenterModel(NamedTuple):
    """``preset``: of the detection head, with what the model's public code has otherwise; ``make``: the model on the
    parts of a detector."""

    preset: Callable[[FCOSPreset], FCOSPreset]
    make: Callable[[FCOS, InstancesRecipe], InstanceSegmenter]


_MODELS = {
    "blendmask": SegmenterModel(
        blendmask_preset, lambda of, options: BlendMask(of.backbone, of.neck, of.head, options.blendmask)
    )
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
    chosen = _MODELS[options.chosen()]
    return build_chosen(chosen, model, options, decoder, num_classes, load_weights=load_weights)


def build_chosen(
    chosen: SegmenterModel,
    model: ModelRecipe,
    options: InstancesRecipe,
    decoder: Decoder,
    num_classes: int,
    *,
    load_weights: bool,
) -> InstanceSegmenter:
    """As :func:`build_segmenter`, of one of the models that may be another task's."""
    if isinstance(decoder, Baseline) and decoder.kind == "fpn-retinanet":
        raise InputError(
            "an instance segmenter needs an FCOS head",
            value=decoder.kind,
            where="recipe key baselines",
            repair="Leave it out; fpn-fcos and deform-fpn-fcos have one.",
        )
    # What was typed comes last.
    keys = {**chosen.preset(get_preset(options.preset)).model_dump(), **options.preset_overrides}
    wired = model.model_copy(update={"preset": options.preset, "preset_overrides": keys})
    detector = build_detector(wired, decoder, num_classes, load_weights=load_weights)
    assert isinstance(detector, FCOS)
    return chosen.make(detector, options)
