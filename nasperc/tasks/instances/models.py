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
from nasperc.models.instances import PasteInto
from nasperc.models.smalmask.model import SmalMask
from nasperc.models.smalmask.preset import smalmask_preset
from nasperc.models.smalmask.recipe import SmalMaskRecipe
from nasperc.models.smalmask2.model import SmalMask2
from nasperc.models.smalmask2.recipe import SmalMask2Recipe
from nasperc.tasks.base import TaskRecipe
from nasperc.tasks.detection.predict import View
from nasperc.tasks.instances.draw_bases import draw_bases


class InstancesRecipe(TaskRecipe):
    """``preset``, ``preset_overrides``: of the detection head, in place of the search's, which is rewarded as a
    detector; of the models: see :class:`BlendMaskRecipe`, :class:`DR1MaskRecipe`, :class:`SmalMaskRecipe`,
    :class:`SmalMask2Recipe`.

    ``paste_into``: a mask is pooled with the box as it is predicted, and pasted into that box when it is scaled and
    clipped ("clipped_box", detectron2's order, which squeezes the mask of an object that leaves the image), or into the
    box that it was pooled with, and cut at the border ("pooled_box"). Boxes are reported clipped in both."""

    preset: str = "adelaidet"
    preset_overrides: dict[str, Any] = Field(default_factory=dict)
    paste_into: PasteInto = "clipped_box"
    blendmask: BlendMaskRecipe = BlendMaskRecipe()
    dr1mask: DR1MaskRecipe = DR1MaskRecipe()
    smalmask: SmalMaskRecipe = SmalMaskRecipe()
    smalmask2: SmalMask2Recipe = SmalMask2Recipe()

    def chosen(self) -> str:
        """Of :data:`MODELS`."""
        return self.model or MODELS[0]

    def section(self) -> str:
        """The key of what the chosen model has of its own."""
        return self.chosen()

    def described(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        # Without the sections of the other models: what a training is continued by does not change with each new one.
        left_out = set(MODELS) - {self.section()}
        # Older checkpoints have no such key.
        if self.paste_into == InstancesRecipe().paste_into:
            left_out.add("paste_into")
        return self.model_dump(mode="json", exclude=left_out)

    def title(self) -> str:
        """What the chosen model is called."""
        return _MODELS[self.chosen()].title

    def views(self) -> tuple[View, ...]:
        """What ``--show`` may name."""
        return _MODELS[self.chosen()].views

    def view(self, name: str) -> View:
        """The view of the chosen model that ``--show`` names.

        Raises:
            InputError: it has no such one.
        """
        views = {view.name: view for view in self.views()}
        if name not in views:
            raise InputError(
                f"what {self.title()} shows must be one of {', '.join(views)}"
                if views
                else f"{self.title()} has nothing more to show",
                value=name,
                where="--show",
                repair="Choose one of them, or leave it out." if views else "Leave it out.",
            )
        return views[name]


class SegmenterModel(NamedTuple):
    """``title``: what the thesis calls it; ``preset``: of the detection head, with what the model's public code has
    otherwise; ``make``: the model on the parts of a detector; ``views``: what ``--show`` may name."""

    title: str
    preset: Callable[[FCOSPreset, InstancesRecipe], FCOSPreset]
    make: Callable[[FCOS, InstancesRecipe], InstanceSegmenter]
    views: tuple[View, ...] = ()


BLENDMASK = "blendmask"

_MODELS = {
    BLENDMASK: SegmenterModel(
        "BlendMask",
        lambda preset, _: blendmask_preset(preset),
        lambda of, options: BlendMask(of.backbone, of.neck, of.head, options.blendmask),
        (View("bases", draw_bases),),
    ),
    # 5.5.1: "all hyperparameters are set to be the same with BlendMask".
    "dr1mask": SegmenterModel(
        "DR1Mask",
        lambda preset, _: blendmask_preset(preset),
        lambda of, options: DR1Mask(of.backbone, of.neck, of.head, options.dr1mask),
    ),
    # 3.5: "all hyper-parameters are set to be the same with FCOS".
    "smalmask": SegmenterModel(
        "SmalMask",
        lambda preset, options: smalmask_preset(preset, options.smalmask),
        lambda of, options: SmalMask(of.backbone, of.neck, of.head, options.smalmask),
    ),
    "smalmask2": SegmenterModel(
        "SmalMask2",
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
    keys = {**chosen.preset(get_preset(options.preset), options).model_dump(), **options.preset_overrides}
    wired = model.model_copy(update={"preset": options.preset, "preset_overrides": keys})
    detector = build_detector(wired, decoder, num_classes, load_weights=load_weights)
    assert isinstance(detector, FCOS)
    segmenter = chosen.make(detector, options)
    segmenter.paste_into = options.paste_into
    return segmenter
