"""Which BlendMask AdelaiDet's tensors are of: bases, attentions, bottom module, semantic head."""

from __future__ import annotations

import math
import re
from typing import Any

from pydantic import ValidationError

from nasperc.convert.names import BASES, SEMANTIC_HEAD
from nasperc.convert.weights_file import WeightsFile
from nasperc.errors import InputError
from nasperc.models.blendmask.protonet import ProtoNetRecipe
from nasperc.models.blendmask.recipe import BlendMaskRecipe
from nasperc.models.masks.semantic_head import SemanticRecipe
from nasperc.tasks.instances.models import BLENDMASK, InstancesRecipe

_REFINED = re.compile(rf"{re.escape(BASES)}refine\.(\d+)\.0\.weight")
# The 1x1 is the tower's one convolution without a norm; three-by-threes and the upsampling stand before it.
_LAST = re.compile(rf"{re.escape(BASES)}tower\.(\d+)\.weight")
_DEFAULT = ProtoNetRecipe()


def has_blendmask(source: WeightsFile) -> bool:
    """Whether a file has BlendMask's bottom module."""
    return any(key.startswith(BASES) for key in source.tensors)


def segmenter_options(
    source: WeightsFile, num_classes: int, preset_overrides: dict[str, Any]
) -> InstancesRecipe:
    """The task's options of a segmenter.

    R, the sampling of bases and attentions, and that the levels of the bottom module are P3, P4 and P5, stand in no
    tensor; they are those of all of AdelaiDet's configurations, and the defaults of :class:`BlendMaskRecipe`.

    Args:
        source: the file.
        num_classes: K of the detector. A semantic head of other classes is left out.
        preset_overrides: of the head.

    Raises:
        InputError: a tensor is missing; it is another bottom module, or an attention that is no square.
    """
    # Up to the last ones that are there: a gap is reported as missing keys, not taken for a smaller network.
    levels = 1 + max(
        (int(found[1]) for found in map(_REFINED.fullmatch, source.tensors) if found), default=-1
    )
    if levels != len(_DEFAULT.inputs):
        raise _other(
            source, f"a bottom module that reads {levels} levels instead of {', '.join(_DEFAULT.inputs)}"
        )
    last = max((int(found[1]) for found in map(_LAST.fullmatch, source.tensors) if found), default=5)
    bases, channels = source.rows(f"{BASES}tower.{last}.weight"), source.rows("top_layer.weight")
    attention = math.isqrt(channels // bases)
    if bases * attention**2 != channels:
        raise _other(
            source, f"{channels} channels of the top layer for {bases} bases, no square of cells each"
        )
    if bases == 1:
        # Its softmax over a single score is 1 there, and no mask depends on the attention.
        raise _other(source, "one basis")
    try:
        blendmask = BlendMaskRecipe(
            bases=bases,
            attention=attention,
            merger="weighted_sum" if attention == 1 else "blender",
            bottom=ProtoNetRecipe(width=source.rows(f"{BASES}refine.0.0.weight"), convolutions=last - 1),
            semantic=_semantic(source, num_classes),
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise _other(source, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    return InstancesRecipe(model=BLENDMASK, preset_overrides=preset_overrides, blendmask=blendmask)


def _semantic(source: WeightsFile, num_classes: int) -> SemanticRecipe | None:
    if not any(key.startswith(SEMANTIC_HEAD) for key in source.tensors):
        return None
    # Background is a class there.
    if source.rows(f"{SEMANTIC_HEAD}6.weight") != num_classes + 1:
        return None
    return SemanticRecipe(width=source.rows(f"{SEMANTIC_HEAD}0.weight"))


def _other(source: WeightsFile, found: str) -> InputError:
    return InputError(
        "a BlendMask must be one that AdelaiDet's configurations make: two bases or more from P3, P4 and P5, and "
        "attentions of M x M cells",
        value=found,
        where=source.path,
        repair="Nothing was written. Other ones are not converted.",
    )
