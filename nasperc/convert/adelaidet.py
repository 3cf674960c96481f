"""AdelaiDet's detectors and instance segmenters: which network the tensors are of, as a checkpoint of ours.

Tensors do not say all of it. What they leave open is as in all of AdelaiDet's own configurations; in what these differ,
the sides of the images, can be told.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from nasperc.assembly.detector import Baseline, build_detector
from nasperc.assembly.recipe import ModelRecipe
from nasperc.convert import names
from nasperc.convert.adelaidet_blendmask import has_blendmask, segmenter_options
from nasperc.convert.matching import match
from nasperc.convert.names import HEAD, SEMANTIC_HEAD
from nasperc.convert.outcome import Conversion
from nasperc.convert.resnet import normalisation_of_pixels, resnet_recipe, with_deformable_blocks
from nasperc.convert.weights_file import WeightsFile
from nasperc.data.coco_names import COCO_CLASSES
from nasperc.errors import InputError
from nasperc.models.backbones.build import NormalisationName
from nasperc.models.backbones.resnet import StrideIn
from nasperc.models.fcos.preset import SIZES_OF_INTEREST
from nasperc.recipe.root import Recipe
from nasperc.tasks.detection.trained import describe
from nasperc.tasks.instances.models import InstancesRecipe, build_segmenter
from nasperc.tasks.instances.trained import describe_segmenter
from nasperc.training.recipe import TrainingRecipe

# Configurations without P7 are of real-time models, tested at a short side of 550 (thesis 4.4.2) or 512.
_REAL_TIME_SIDES = (550, 916)
# The open end of the last size of interest there.
_NO_END = 1e8


def is_adelaidet(source: WeightsFile) -> bool:
    """Whether a file has AdelaiDet's FCOS."""
    return any(key.startswith(HEAD) for key in source.tensors)


def convert_adelaidet(
    source: WeightsFile,
    *,
    classes: tuple[str, ...] | None,
    normalisation: NormalisationName | None,
    stride_in: StrideIn | None,
    short_side: int | None,
    long_side: int | None,
) -> Conversion:
    """A detector, or with the modules of BlendMask an instance segmenter; arguments and errors as of
    :func:`nasperc.convert.conversion.convert`."""
    normalisation = normalisation or normalisation_of_pixels(source.tensors, source.path) or "caffe"
    naming, path = names.detectron2_detector, source.path
    backbone = resnet_recipe(source.tensors, naming, normalisation, stride_in, path)
    backbone = with_deformable_blocks(backbone, source.tensors, naming, path)
    decoder = _decoder(source)
    num_classes = source.rows(f"{HEAD}cls_logits.weight")
    overrides = _overrides(source, decoder)
    options = segmenter_options(source, num_classes, overrides) if has_blendmask(source) else None
    recipe = ModelRecipe(
        backbone=backbone, preset="adelaidet", preset_overrides={} if options is not None else overrides
    )
    settings = Recipe()
    with torch.device("meta"):
        wanted = _network(recipe, options, decoder, num_classes)
    state, report = match(source.tensors, wanted.state_dict(), names.adelaidet(*decoder.ends))
    training = _training(settings.fulltrain, decoder, short_side, long_side)
    layers = rf"backbone\.|{re.escape(HEAD)}"
    if options is None:
        kind, description = "AdelaiDet FCOS detector", describe(recipe, decoder, settings.space)
    else:
        kind = "AdelaiDet BlendMask instance segmenter"
        description = describe_segmenter(recipe, decoder, settings.space, options)
        # A semantic head of other classes is none of the network: training alone looks at it.
        but = "" if options.blendmask.semantic is not None else f"(?!{re.escape(SEMANTIC_HEAD)})"
        layers += rf"|top_layer\.|{but}{re.escape(names.BASES)}"
    content = {
        **description,
        "training": training.model_dump(mode="json"),
        "classes": list(_classes(classes, num_classes, path)),
        "normalisation": normalisation,
        "step": 0,
        "finished": True,
        "model": state,
    }
    return Conversion(
        source,
        kind,
        _in_words(recipe, options, decoder, num_classes, training),
        report,
        re.compile(layers),
        content,
        "nasperc evaluate {out} --data DIR",
    )


def _network(
    recipe: ModelRecipe, options: InstancesRecipe | None, decoder: Baseline, num_classes: int
) -> nn.Module:
    if options is None:
        return build_detector(recipe, decoder, num_classes)
    return build_segmenter(recipe, options, decoder, num_classes)


def _decoder(source: WeightsFile) -> Baseline:
    """Widths, depth, ends of the pyramid, and whether one tower is for class and box."""
    tensors = source.tensors
    merged = f"{HEAD}share_tower.0.weight" in tensors and f"{HEAD}cls_tower.0.weight" not in tensors
    tower = f"{HEAD}{'share' if merged else 'cls'}_tower"
    depth = 0
    while f"{tower}.{3 * depth}.weight" in tensors:
        depth += 1
    finest: Literal[2, 3] = 2 if "backbone.fpn_lateral2.weight" in tensors else 3
    coarsest: Literal[6, 7] = 7 if any(key.startswith("backbone.top_block.p7.") for key in tensors) else 6
    widths = source.rows("backbone.fpn_lateral3.weight"), source.rows(f"{tower}.0.weight")
    return Baseline(*widths, depth, ends=(finest, coarsest), merged_tower=merged)


def _overrides(source: WeightsFile, decoder: Baseline) -> dict[str, Any]:
    """In what the head differs from the preset."""
    overrides: dict[str, Any] = {"level_scales": f"{HEAD}scales.0.scale" in source.tensors}
    levels = decoder.ends[1] - 2
    if levels < len(SIZES_OF_INTEREST):
        *finer, (low, _) = SIZES_OF_INTEREST[:levels]
        overrides["sizes_of_interest"] = [*map(list, finer), [low, _NO_END]]
    return overrides


def _training(
    recipe: TrainingRecipe, decoder: Baseline, short_side: int | None, long_side: int | None
) -> TrainingRecipe:
    """Of full training; what counts of it are the sides that images are resized to."""
    sides = (recipe.test_short_side, recipe.max_long_side) if decoder.ends[1] == 7 else _REAL_TIME_SIDES
    keys = {
        "test_short_side": sides[0] if short_side is None else short_side,
        "max_long_side": sides[1] if long_side is None else long_side,
    }
    return TrainingRecipe.model_validate({**recipe.model_dump(), **keys})


def _in_words(
    recipe: ModelRecipe,
    options: InstancesRecipe | None,
    decoder: Baseline,
    num_classes: int,
    training: TrainingRecipe,
) -> str:
    backbone, (finest, coarsest) = recipe.backbone, decoder.ends
    details = [f"stride in the {backbone.stride_in or '3x3'}", f"normalisation {backbone.normalisation}"]
    if backbone.deformable_stages:
        stages = ", ".join(f"C{stage}" for stage in backbone.deformable_stages)
        details.append(f"deformable in {stages} at an interval of {backbone.deformable_interval}")
    parts = [
        f"{backbone.name} ({', '.join(details)})",
        f"FPN of {decoder.fpn_width} from P{finest} to P{coarsest}",
        f"{'one tower' if decoder.merged_tower else 'towers'} of {decoder.depth} x {decoder.head_width}",
        f"{num_classes} classes",
    ]
    if options is not None:
        chosen = options.blendmask
        semantic = "without" if chosen.semantic is None else "with"
        parts.append(
            f"BlendMask {chosen.name}, {chosen.bottom.name} of {chosen.bottom.width}, {semantic} semantic head"
        )
    return ", ".join([*parts, f"images of {training.test_short_side} to {training.max_long_side}"])


def _classes(given: tuple[str, ...] | None, count: int, path: Path) -> tuple[str, ...]:
    if given is None and count == len(COCO_CLASSES):
        return COCO_CLASSES
    if given is None or len(given) != count:
        raise InputError(
            f"a detector of {count} classes needs {count} names",
            value="none" if given is None else f"{len(given)} names",
            where=path if given is None else "--classes",
            repair="List them in a file, one a line in the order of the labels, and pass it as --classes FILE.",
        )
    return given
