"""Foreign weights -> a file of ours: recognised by their keys, checked tensor by tensor.

The kinds: AdelaiDet's FCOS and BlendMask, and ResNets of MSRA, detectron2 and torchvision.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple, get_args

import torch

from nasperc.convert import names
from nasperc.convert.adelaidet import convert_adelaidet, is_adelaidet
from nasperc.convert.matching import match
from nasperc.convert.outcome import Conversion
from nasperc.convert.resnet import normalisation_of_pixels, resnet_recipe
from nasperc.convert.weights_file import WeightsFile
from nasperc.errors import InputError
from nasperc.models.backbones.build import NormalisationName, build_backbone
from nasperc.models.backbones.resnet import StrideIn


class _ResNetKind(NamedTuple):
    """``marker``: a key that only this kind has. ``layers``: keys of its residual blocks."""

    title: str
    marker: str
    layers: str
    naming: Callable[[str], str]
    normalisation: NormalisationName | None


_RESNETS = (
    _ResNetKind("MSRA ResNet (Caffe2 names)", "conv1_w", r"res\d_", names.caffe2, "caffe"),
    _ResNetKind("detectron2 ResNet", "stem.conv1.weight", r"res\d\.", names.detectron2, None),
    _ResNetKind(
        "ResNet of a detectron2 detector",
        "backbone.bottom_up.stem.conv1.weight",
        r"backbone\.bottom_up\.",
        names.detectron2_detector,
        None,
    ),
    _ResNetKind("torchvision ResNet", "layer1.0.conv1.weight", r"layer\d\.", names.torchvision, "imagenet"),
)
# What detectron2's own files say under __author__.
_NORMALISATION_BY_AUTHOR: dict[str | None, NormalisationName] = {"torchvision": "imagenet", "MSRA": "caffe"}


def convert(
    source: WeightsFile,
    *,
    classes: tuple[str, ...] | None = None,
    normalisation: str | None = None,
    stride_in: str | None = None,
    short_side: int | None = None,
    long_side: int | None = None,
) -> Conversion:
    """Recognise weights and match them with the network that they are for; nothing is written yet.

    Args:
        source: as :func:`nasperc.convert.weights_file.read_weights` gives it.
        classes: names of a detector's classes; None: COCO's, if there are 80.
        normalisation: of the input; None: what goes with the kind (see ``nasperc/data/normalisation.py``).
        stride_in: where bottlenecks stride; None: the 1x1 with ``caffe``, else the 3x3.
        short_side, long_side: of the images that a detector is tested on, the long one at most so long, in pixels;
            None: 800 and 1333, without P7 550 and 916.

    Raises:
        InputError: of no known kind; a network that is not built here; something has to be told.
    """
    asked: NormalisationName | None = _one_of(get_args(NormalisationName), normalisation, "--normalisation")
    stride: StrideIn | None = _one_of(get_args(StrideIn), stride_in, "--stride-in")
    if is_adelaidet(source):
        return convert_adelaidet(
            source,
            classes=classes,
            normalisation=asked,
            stride_in=stride,
            short_side=short_side,
            long_side=long_side,
        )
    if short_side is not None or long_side is not None:
        raise InputError(
            "only detectors are tested on images of a size",
            value=f"{short_side} and {long_side}",
            where="--short-side, --long-side",
            repair="Leave them out for the weights of a backbone.",
        )
    kind = next((kind for kind in _RESNETS if kind.marker in source.tensors), None)
    if kind is None:
        known = ", ".join(("AdelaiDet FCOS detector or BlendMask", *(kind.title for kind in _RESNETS)))
        raise InputError(
            f"weights must be of a known kind: {known}",
            value=f"{len(source.tensors)} tensors such as {next(iter(source.tensors))}",
            where=source.path,
            repair="What nasperc wrote itself and torchvision's MobileNetV2 need no conversion.",
        )
    return _resnet(source, kind, asked, stride)


def _one_of(choices: tuple[str, ...], value: str | None, option: str) -> Any:
    if value is None or value in choices:
        return value
    raise InputError(
        f"{option} must be one of {', '.join(choices)}",
        value=repr(value),
        where=option,
        repair="Leave it out for what goes with the kind of weights.",
    )


def _resnet(
    source: WeightsFile, kind: _ResNetKind, asked: NormalisationName | None, stride_in: StrideIn | None
) -> Conversion:
    normalisation = (
        asked
        or kind.normalisation
        or normalisation_of_pixels(source.tensors, source.path)
        or _NORMALISATION_BY_AUTHOR.get(source.author)
    )
    if normalisation is None:
        raise InputError(
            "the normalisation that backbone weights expect must be known",
            value="weights in detectron2's names, which come from MSRA (caffe) or torchvision (imagenet)",
            where=source.path,
            repair="Name it with --normalisation.",
        )
    recipe = resnet_recipe(source.tensors, kind.naming, normalisation, stride_in, source.path)
    with torch.device("meta"):
        wanted = build_backbone(recipe).state_dict()
    state, report = match(
        source.tensors,
        wanted,
        lambda ours: (kind.naming(ours),),
        fill_statistics=kind.naming is names.caffe2,
    )
    content = {
        "backbone": recipe.name,
        "normalisation": normalisation,
        "stride_in": recipe.stride_in,
        "state_dict": state,
    }
    network = f"{recipe.name}, normalisation {normalisation}"
    command = f"nasperc search --weights {{out}} --set model.backbone.name={recipe.name}"
    return Conversion(source, kind.title, network, report, re.compile(kind.layers), content, command)
