"""Which ResNet a file holds, by its keys and shapes, and with which input normalisation it was trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from nasperc.data.normalisation import NORMALISATIONS
from nasperc.errors import InputError
from nasperc.models.backbones.build import BackboneRecipe, NormalisationName
from nasperc.models.backbones.resnet import RESNETS, ResNetShape, StrideIn

_MOST_BLOCKS = 64


def resnet_recipe(
    tensors: Mapping[str, Tensor],
    naming: Callable[[str], str],
    normalisation: NormalisationName,
    stride_in: StrideIn | None,
    path: Path,
) -> BackboneRecipe:
    """The recipe of a backbone as detectors keep it: stem and C2 without gradient, BatchNorm constant.

    Args:
        tensors: of the file.
        naming: the file's name for one of ours.
        normalisation: of the input.
        stride_in: where bottlenecks stride; None: what goes with the normalisation.
        path: of the file, for the errors.

    Raises:
        InputError: it is none of the ResNets that we have.
    """
    shape = _shape(tensors, naming)
    name = next((name for name, known in RESNETS.items() if known == shape), None)
    if shape is None or name is None:
        raise InputError(
            f"a ResNet must be one of {', '.join(RESNETS)}",
            value="a file without its first block" if shape is None else _describe(shape),
            where=path,
            repair="Check that the file is whole; other depths are not built here.",
        )
    if not shape.bottleneck and stride_in is not None:
        raise InputError(
            "only networks with bottlenecks can stride in the 1x1 or the 3x3",
            value=f"{stride_in} for {name}",
            where="--stride-in",
            repair="Leave it out.",
        )
    recipe = BackboneRecipe(
        name=name,  # type: ignore[arg-type]
        normalisation=normalisation,
        stride_in=stride_in,
        freeze_at=2,
        frozen_bn=True,
    )
    # The recipe is kept with the weights: it says what holds, not what would follow.
    return recipe.model_copy(update={"stride_in": recipe.bottleneck_stride()}) if shape.bottleneck else recipe


def with_deformable_blocks(
    recipe: BackboneRecipe, tensors: Mapping[str, Tensor], naming: Callable[[str], str], path: Path
) -> BackboneRecipe:
    """``recipe`` with the deformable blocks that the file has, if it has any: every n-th of some stages.

    Args:
        recipe: of the network, by :func:`resnet_recipe`.
        tensors, naming, path: see there.

    Raises:
        InputError: they are others.
    """
    counts = dict(zip((2, 3, 4, 5), RESNETS[recipe.name].blocks, strict=True))
    offsets = "layer{}.{}.conv2.offset_mask.weight"
    found = {
        stage: [n for n in range(count) if naming(offsets.format(stage - 1, n)) in tensors]
        for stage, count in counts.items()
    }
    stages = tuple(stage for stage, blocks in found.items() if blocks)
    if not stages:
        return recipe
    for interval in range(1, max(counts.values()) + 1):
        if all(found[stage] == list(range(0, counts[stage], interval)) for stage in stages):
            try:
                keys = {"deformable_stages": stages, "deformable_interval": interval}
                return BackboneRecipe.model_validate({**recipe.model_dump(), **keys})
            except ValidationError as error:
                raise _not_deformable_so(error.errors()[0]["msg"], path) from error
    raise _not_deformable_so("; ".join(f"blocks {found[stage]} of C{stage}" for stage in stages), path)


def _not_deformable_so(found: str, path: Path) -> InputError:
    return InputError(
        "deformable blocks must be every n-th of C3, C4 or C5, the first one included, of a network with bottlenecks",
        value=found,
        where=path,
        repair="Nothing was written. Check that the file is whole; other ones are not built here.",
    )


def normalisation_of_pixels(tensors: Mapping[str, Tensor], path: Path) -> NormalisationName | None:
    """The normalisation that ``pixel_mean`` and ``pixel_std`` of a detectron2 detector say; None: not there.

    Raises:
        InputError: they are those of none that we know.
    """
    if "pixel_mean" not in tensors or "pixel_std" not in tensors:
        return None
    mean, std = (tensors[key].flatten().float() for key in ("pixel_mean", "pixel_std"))
    for name, known in NORMALISATIONS.items():
        wanted = torch.tensor(known.mean), torch.tensor(known.std)
        if mean.shape == std.shape == (3,) and all(map(torch.allclose, (mean, std), wanted)):
            return name  # type: ignore[return-value]
    raise InputError(
        f"a detector's pixel_mean and pixel_std must be those of {', '.join(NORMALISATIONS)}",
        value=f"{mean.tolist()} and {std.tolist()}",
        where=path,
        repair="Weights trained with others cannot be converted.",
    )


def _shape(tensors: Mapping[str, Tensor], naming: Callable[[str], str]) -> ResNetShape | None:
    """Blocks by stage, kind of block, groups and their width; None where the first block is missing."""
    first, second, third = (tensors.get(naming(f"layer1.0.conv{n}.weight")) for n in (1, 2, 3))
    if first is None or second is None or first.ndim != 4 or second.ndim != 4:
        return None
    # Up to the last one that is there: a gap is reported as missing keys, not taken for a smaller network.
    blocks = [
        max(
            (n + 1 for n in range(_MOST_BLOCKS) if naming(f"layer{stage}.{n}.conv1.weight") in tensors),
            default=0,
        )
        for stage in (1, 2, 3, 4)
    ]
    width = second.shape[1]
    return ResNetShape(tuple(blocks), third is not None, first.shape[0] // width, width)  # type: ignore[arg-type]


def _describe(shape: ResNetShape) -> str:
    kind = "bottlenecks" if shape.bottleneck else "basic blocks"
    groups = f", {shape.groups} groups of {shape.width_per_group}" if shape.groups > 1 else ""
    return f"{'-'.join(map(str, shape.blocks))} {kind}{groups}"
