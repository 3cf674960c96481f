"""The semantic branch against its stages written out one by one."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nasperc.errors import InputError
from nasperc.models.features import FeatureSpec
from nasperc.models.panoptic.semantic_branch import SemanticBranch, SemanticBranchRecipe

CLASSES = 5
BACKBONE = (FeatureSpec("C2", 4, 4), FeatureSpec("C5", 8, 32))
NECK = tuple(FeatureSpec(f"P{level}", 6, 2**level) for level in range(2, 8))


def maps(specs: tuple[FeatureSpec, ...], size: tuple[int, int]) -> list[Tensor]:
    """Features of an image of ``size``, whose sides need not be multiples of the strides."""
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(2, spec.channels, *(math.ceil(side / spec.stride) for side in size), generator=generator)
        for spec in specs
    ]


def branch_of(**keys: object) -> SemanticBranch:
    torch.manual_seed(0)
    recipe = SemanticBranchRecipe.model_validate({"width": 32, **keys})
    return SemanticBranch(recipe, CLASSES, BACKBONE, NECK)


def slowly(branch: SemanticBranch, levels: list[Tensor], doublings: list[int]) -> Tensor:
    """Each level through its stages: convolution, normalisation of 32 groups, ReLU, twice as large."""
    parameters = iter(branch.stages.parameters())
    total = None
    for level, count in zip(levels, doublings, strict=True):
        for _ in range(max(1, count)):
            kernel, scale, shift = (next(parameters) for _ in range(3))
            level = F.relu(F.group_norm(F.conv2d(level, kernel, padding=1), 32, scale, shift))
            if count:
                size = (2 * level.shape[2], 2 * level.shape[3])
                level = F.interpolate(level, size, mode="bilinear", align_corners=False)
        total = level if total is None else total + level[:, :, : total.shape[2], : total.shape[3]]
    assert next(parameters, None) is None
    return F.conv2d(total, branch.classifier.weight, branch.classifier.bias)


@pytest.mark.parametrize(
    ("levels", "stride", "doublings"),
    [
        (("P2", "P3", "P4", "P5"), 4, [0, 1, 2, 3]),
        (("P3", "P4", "P5"), 8, [0, 1, 2]),
        (("P3",), 8, [0]),
        (("C2", "P5"), 4, [0, 3]),
    ],
)
@pytest.mark.parametrize("size", [(64, 96), (52, 76)])
def test_it_is_the_sum_of_its_levels(
    levels: tuple[str, ...], stride: int, doublings: list[int], size: tuple[int, int]
) -> None:
    branch = branch_of(levels=levels)
    assert branch.stride == stride
    backbone, neck = maps(BACKBONE, size), maps(NECK, size)
    logits = branch(backbone, neck)
    assert logits.shape == (2, CLASSES, math.ceil(size[0] / stride), math.ceil(size[1] / stride))
    by_name = dict(zip((spec.name for spec in (*BACKBONE, *NECK)), (*backbone, *neck), strict=True))
    torch.testing.assert_close(logits, slowly(branch, [by_name[name] for name in levels], doublings))


def test_gradients_reach_every_parameter() -> None:
    branch = branch_of()
    branch(maps(BACKBONE, (64, 64)), maps(NECK, (64, 64))).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in branch.parameters())


def test_the_branch_of_panoptic_fpn_has_its_size() -> None:
    """P2 to P5 of 256 channels, width 128: one, one, two and three convolutions."""
    pyramid = tuple(FeatureSpec(f"P{level}", 256, 2**level) for level in range(2, 6))
    branch = SemanticBranch(SemanticBranchRecipe(levels=("P2", "P3", "P4", "P5")), 54, (), pyramid)
    of_convolutions = 9 * (4 * 256 * 128 + 3 * 128 * 128)
    of_norms = 7 * 2 * 128
    assert sum(p.numel() for p in branch.parameters()) == of_convolutions + of_norms + 128 * 54 + 54


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"levels": ("P1", "P3")}, "must be one that the backbone or the neck puts out, but got P1"),
        ({"levels": ("P4", "P3")}, "must go from fine to coarse, but got P4 of stride 16"),
        ({"levels": ("P3", "P3")}, "must go from fine to coarse"),
        ({"width": 48}, "multiple of 32, but got 48"),
    ],
)
def test_what_does_not_fit_is_one_clear_error(keys: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        branch_of(**keys)
    assert "task.semantic_branch" in error.value.where
