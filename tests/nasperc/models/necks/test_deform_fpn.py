from __future__ import annotations

import torch

from nasperc.evaluation.cost import measure_module_cost
from nasperc.models.features import FeatureSpec
from nasperc.models.necks.deform_fpn import DeformFPN
from nasperc.models.necks.fpn import FPN
from nasperc.ops.deform_conv import DeformConv2d

INPUTS = tuple(FeatureSpec(f"C{level}", 16, 2**level) for level in range(3, 6))


def test_ten_deformable_convolutions_stand_for_the_five_3x3_ones() -> None:
    neck = DeformFPN(INPUTS, 8)
    deformable = [module for module in neck.modules() if isinstance(module, DeformConv2d)]
    assert len(deformable) == 10
    # No ordinary 3x3 is left but those that predict offsets.
    offsets = {id(module.offset_mask) for module in deformable}
    ordinary = [m for m in neck.modules() if isinstance(m, torch.nn.Conv2d) and id(m) not in offsets]
    assert {module.kernel_size for module in ordinary} == {(1, 1)}


def test_the_cost_by_hand() -> None:
    features = [torch.empty(1, 16, 64 // s, 64 // s, device="meta") for s in (1, 2, 4)]
    plain, deformable = (measure_module_cost(kind(INPUTS, 8), features) for kind in (FPN, DeformFPN))
    one_conv, one_deformable = 8 * (8 * 9 + 1), (8 + 54) * (8 * 9 + 1)
    pixels = 64**2 + 32**2 + 16**2 + 8**2 + 4**2
    assert deformable.flops - plain.flops == pixels * (2 * one_deformable - one_conv)
    assert deformable.params_total - plain.params_total == 5 * (2 * one_deformable - one_conv)


def test_other_ends_are_deformable_too() -> None:
    neck = DeformFPN((FeatureSpec("C2", 16, 4), *INPUTS), 8, ends=(2, 6))
    assert [spec.name for spec in neck.out] == ["P2", "P3", "P4", "P5", "P6"]
    assert len([module for module in neck.modules() if isinstance(module, DeformConv2d)]) == 10
