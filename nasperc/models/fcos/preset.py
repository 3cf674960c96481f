"""The two presets of the one FCOS head: everything in which the public implementations differ."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from nasperc.errors import InputError
from nasperc.models.targets import Crowd

SizesOfInterest = tuple[tuple[float, float], ...]


def sizes_of_interest(canonical_length: float, levels: int) -> SizesOfInterest:
    """Of each level in pixels: from 2^(p-2) L to 2^(p-1) L of level p, L the canonical length (thesis 3.3.2); the first
    and the last level are open."""
    bounds: list[float] = [-1, *(canonical_length * 2**level for level in range(levels - 1)), math.inf]
    return tuple(pairwise(bounds))


SIZES_OF_INTEREST = sizes_of_interest(64, levels=5)


class FCOSPreset(BaseModel):
    """How an FCOS head is wired, trained and decoded.

    Wiring: ``centerness_on`` which tower; boxes = ``box_activation(scale_l * conv)`` in ``box_unit`` (input
    pixels or the level's stride), with one learned ``scale_l`` a level if ``level_scales``.

    Targets: ``sizes_of_interest`` of each level in pixels, both ends inclusive; ``centre_sampling_radius`` in
    strides, null for the whole box. Of several boxes at one location the smallest counts. What lies in COCO's
    ``crowd`` regions is ignored in training, or background; VOC's difficult objects are ignored by either.

    Losses: ``box_loss`` is computed in ``box_unit``; the focal loss is divided by ``focal_normaliser``.

    Inference: a class is a candidate when ``threshold_on`` is above ``score_threshold``; the ``pre_nms_top``
    of each level by class * centerness stay; the score is the square root of that product if ``sqrt_score``;
    class-wise NMS above ``nms_iou``, on boxes clipped to the image if ``clip_before_nms`` (what has no area
    then is dropped; without clipping, empty boxes take places until the end, as AdelaiDet has it);
    ``detections`` an image stay, with all that tie with the last.
    """

    # Infinity as a string: the open end of the last size of interest is not valid JSON otherwise.
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")

    name: str
    centerness_on: Literal["cls_tower", "box_tower"]
    box_activation: Literal["exp", "relu"]
    box_unit: Literal["pixel", "stride"]
    level_scales: bool = True

    sizes_of_interest: SizesOfInterest = SIZES_OF_INTEREST
    centre_sampling_radius: float | None = Field(default=None, gt=0)
    crowd: Crowd = "ignore"

    box_loss: Literal["iou", "giou"]
    focal_normaliser: Literal["positives_and_images", "positives"]
    focal_alpha: float = Field(default=0.25, ge=0, le=1)
    focal_gamma: float = Field(default=2.0, ge=0)
    class_prior: float = Field(default=0.01, gt=0, lt=1)

    threshold_on: Literal["class", "class_times_centerness"] = "class"
    score_threshold: float = Field(default=0.05, ge=0, le=1)
    pre_nms_top: int = Field(default=1000, ge=1, le=1_000_000)
    sqrt_score: bool = True
    clip_before_nms: bool
    nms_iou: float = Field(default=0.6, ge=0, le=1)
    detections: int = Field(default=100, ge=1, le=1_000_000)


PRESETS: dict[str, FCOSPreset] = {
    preset.name: preset
    for preset in (
        # The NAS-FCOS release: default of search, proxy task and full training of fcos_decoder. It reports
        # the product itself as the score; its square root has the same order, so the same AP, and lets one
        # score threshold mean the same under both presets.
        FCOSPreset(
            name="nas_fcos",
            centerness_on="cls_tower",
            box_activation="exp",
            box_unit="pixel",
            centre_sampling_radius=None,
            box_loss="iou",
            focal_normaliser="positives_and_images",
            clip_before_nms=True,
        ),
        # AdelaiDet: its checkpoints, thesis chapters 3 to 5, the "w/ improvements" rows of Table 7.2.
        FCOSPreset(
            name="adelaidet",
            centerness_on="box_tower",
            box_activation="relu",
            box_unit="stride",
            centre_sampling_radius=1.5,
            # detectron2, which reads its data, leaves annotations of crowds out.
            crowd="background",
            box_loss="giou",
            focal_normaliser="positives",
            clip_before_nms=False,
        ),
    )
}


def get_preset(name: str) -> FCOSPreset:
    """The preset of that name.

    Raises:
        InputError: there is none.
    """
    if name not in PRESETS:
        raise InputError(
            f"a head preset must be one of {', '.join(PRESETS)}",
            value=repr(name),
            where="recipe key model.preset",
            repair="Choose one of them; preset_overrides changes single keys.",
        )
    return PRESETS[name]
