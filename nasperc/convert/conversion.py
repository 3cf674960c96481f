"""Foreign weights -> a file of ours: recognised by their keys, checked tensor by tensor, written whole or not at all.

The kinds: AdelaiDet's FCOS (and the FCOS inside its BlendMask), and ResNets of MSRA, detectron2 and torchvision.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_args

import torch

from nasperc.assembly.detector import Baseline, build_detector
from nasperc.assembly.recipe import ModelRecipe
from nasperc.convert import names
from nasperc.convert.matching import KeyReport, match
from nasperc.convert.resnet import normalisation_of_pixels, resnet_recipe
from nasperc.convert.weights_file import WeightsFile
from nasperc.data.coco_names import COCO_CLASSES
from nasperc.errors import InputError
from nasperc.models.backbones.build import NormalisationName, build_backbone
from nasperc.models.backbones.resnet import StrideIn
from nasperc.recipe.root import Recipe
from nasperc.tasks.detection.trained import describe
from nasperc.torch_files import not_finite
from nasperc.training.checkpoint import save_checkpoint

_HEAD = "proposal_generator.fcos_head."


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


@dataclass(frozen=True)
class Conversion:
    """What became of a weights file. Nothing is written until :meth:`write`.

    ``kind`` as recognised; ``network``: what it holds, in words; ``report``: its keys; ``content``: of the file to be
    written; ``next_command``: what can be done with that one, ``{out}`` standing for it.
    """

    source: WeightsFile
    kind: str
    network: str
    report: KeyReport
    layers: re.Pattern[str]
    content: dict[str, Any]
    next_command: str

    def check(self) -> None:
        """Check that the network is whole, of finite numbers, and nothing of it would be left out.

        Raises:
            InputError: a key is missing or has another shape; a key of the network's own layers is left over; NaN.
        """
        self.report.require_complete(self.source.path)
        unknown = [key for key in self.report.left_over if self.layers.match(key)]
        if unknown:
            raise InputError(
                "every layer of a network must be known: without one it would compute something else",
                value=f"{len(unknown)} unknown: {unknown[0]}",
                where=self.source.path,
                repair="Nothing was written. Networks with such layers cannot be converted.",
            )
        infinite = not_finite(self.content)
        if infinite is not None:
            raise InputError(
                "weights must be finite numbers",
                value=f"NaN or infinity in {infinite}",
                where=self.source.path,
                repair="Nothing was written. Download the file again, or choose other weights.",
            )

    def write(self, path: Path) -> None:
        """Check, then write.

        Raises:
            InputError: as :meth:`check`; ``path`` is the source or cannot be written.
        """
        self.check()
        if path.resolve() == self.source.path.resolve():
            raise InputError(
                "a converted file must not replace its source",
                value=path,
                where="--out",
                repair="Choose another name.",
            )
        origin = {"file": self.source.path.name, "sha256": self.source.sha256, "kind": self.kind}
        save_checkpoint(path, {**self.content, "converted_from": origin})


def convert(
    source: WeightsFile,
    *,
    classes: tuple[str, ...] | None = None,
    normalisation: str | None = None,
    stride_in: str | None = None,
) -> Conversion:
    """Recognise weights and match them with the network that they are for; nothing is written yet.

    Args:
        source: as :func:`nasperc.convert.weights_file.read_weights` gives it.
        classes: names of a detector's classes; None: COCO's, if there are 80.
        normalisation: of the input; None: what goes with the kind (see ``nasperc/data/normalisation.py``).
        stride_in: where bottlenecks stride; None: the 1x1 with ``caffe``, else the 3x3.

    Raises:
        InputError: of no known kind; a network that is not built here; something has to be told.
    """
    asked: NormalisationName | None = _one_of(get_args(NormalisationName), normalisation, "--normalisation")
    stride: StrideIn | None = _one_of(get_args(StrideIn), stride_in, "--stride-in")
    if any(key.startswith(_HEAD) for key in source.tensors):
        return _detector(source, classes, asked, stride)
    kind = next((kind for kind in _RESNETS if kind.marker in source.tensors), None)
    if kind is None:
        known = ", ".join(("AdelaiDet FCOS detector", *(kind.title for kind in _RESNETS)))
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


def _detector(
    source: WeightsFile,
    classes: tuple[str, ...] | None,
    asked: NormalisationName | None,
    stride_in: StrideIn | None,
) -> Conversion:
    normalisation = asked or normalisation_of_pixels(source.tensors, source.path) or "caffe"
    backbone = resnet_recipe(source.tensors, names.detectron2_detector, normalisation, stride_in, source.path)
    blendmask = any(key.startswith("basis_module.") for key in source.tensors)
    overrides: dict[str, Any] = {}
    if blendmask:
        overrides["threshold_on"] = "class_times_centerness"
    if f"{_HEAD}scales.0.scale" not in source.tensors:
        overrides["level_scales"] = False
    recipe = ModelRecipe(backbone=backbone, preset="adelaidet", preset_overrides=overrides)
    decoder, num_classes = _decoder(source)
    classes = _classes(classes, num_classes, source.path)
    with torch.device("meta"):
        wanted = build_detector(recipe, decoder, num_classes).state_dict()
    state, report = match(source.tensors, wanted, names.adelaidet_fcos)
    settings = Recipe()
    content = {
        **describe(recipe, decoder, settings.space),
        "training": settings.fulltrain.model_dump(mode="json"),
        "classes": list(classes),
        "normalisation": normalisation,
        "step": 0,
        "finished": True,
        "model": state,
    }
    network = (
        f"{backbone.name} (stride in the {backbone.stride_in or '3x3'}, normalisation {normalisation}), "
        f"FPN of {decoder.fpn_width}, towers of {decoder.depth} x {decoder.head_width}, {num_classes} classes"
    )
    return Conversion(
        source,
        "AdelaiDet BlendMask detector, of which its FCOS" if blendmask else "AdelaiDet FCOS detector",
        network,
        report,
        re.compile(rf"backbone\.|{re.escape(_HEAD)}"),
        content,
        "nasperc evaluate {out} --data DIR",
    )


def _decoder(source: WeightsFile) -> tuple[Baseline, int]:
    """Widths and depth of FPN and head, and the number of classes."""

    def channels(name: str) -> int:
        if name not in source.tensors:
            raise InputError(
                "a weights file must have every tensor of the network that it is for",
                value=f"no {name}",
                where=source.path,
                repair="Nothing was written. Check that the file is whole.",
            )
        return len(source.tensors[name])

    depth = 0
    while f"{_HEAD}cls_tower.{3 * depth}.weight" in source.tensors:
        depth += 1
    widths = channels("backbone.fpn_lateral3.weight"), channels(f"{_HEAD}cls_tower.0.weight")
    return Baseline(*widths, depth), channels(f"{_HEAD}cls_logits.weight")


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
