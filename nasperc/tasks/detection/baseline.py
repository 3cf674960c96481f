"""A decoder made by hand at the cost of a searched one: the baseline row of every table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import product

import numpy as np
import torch

from nasperc.assembly.detector import Baseline, build_decoder
from nasperc.assembly.recipe import ModelRecipe
from nasperc.evaluation.cost import measure_module_cost
from nasperc.models.backbones.build import build_backbone
from nasperc.models.features import padded_size

UNIT = 32
WIDTHS = tuple(range(UNIT, 513, UNIT))
DEPTHS = (1, 2, 3, 4)
# (FPN width, head width) in units, and depth: nine points that determine the polynomial.
PROBES = ((1, 1, 1), (1, 2, 1), (1, 3, 1), (2, 2, 1), (3, 3, 1), (2, 4, 1), (1, 1, 2), (1, 2, 2), (1, 3, 2))
# The baseline is not cheaper than this share of what it is compared with, where possible.
FLOOR = 0.95
# Costs whose distance from the target differs by less than this share of it count as equally close.
TIE = 0.05


def baseline_costs(
    model: ModelRecipe, num_classes: int, size: tuple[int, int], like: Baseline | None = None
) -> dict[Baseline, int]:
    """FLOPs of a kind of baseline for every pair of widths and every depth, for images of ``size`` (H, W).

    ``like``: one of the kind, whatever its widths and depth; None: FPN-FCOS.

    They are a polynomial, quadratic in the two widths and linear in the depth. Nine measurements on shapes
    alone therefore determine the whole grid; a test compares it with measuring its points one by one.
    """
    like = like or Baseline()
    preset = model.head_preset()
    with torch.device("meta"), torch.no_grad():
        images = torch.empty(1, 3, *size)
        backbone = build_backbone(model.backbone).eval()
        features = backbone(images)

        def parts(choice: Baseline) -> dict[str, torch.nn.Module]:
            return build_decoder(choice, backbone.out, num_classes, preset)  # type: ignore[arg-type]

        def flops(choice: Baseline) -> int:
            built = parts(choice)
            levels = built["neck"](features)
            neck, head = (
                measure_module_cost(built["neck"], features),
                measure_module_cost(built["head"], levels),
            )
            return neck.flops + head.flops

        probes = [
            replace(like, fpn_width=fpn * UNIT, head_width=head * UNIT, depth=depth)
            for fpn, head, depth in PROBES
        ]
        coefficients = np.linalg.solve(_terms(probes), [flops(choice) for choice in probes])
        fixed = measure_module_cost(backbone, images).flops
    grid = [
        replace(like, fpn_width=fpn, head_width=head, depth=depth)
        for fpn, head, depth in product(WIDTHS, WIDTHS, DEPTHS)
    ]
    values = np.rint(_terms(grid) @ coefficients).astype(np.int64) + fixed
    return dict(zip(grid, values.tolist(), strict=True))


def choose_baseline(target: float, costs: Mapping[Baseline, float]) -> Baseline:
    """The choice whose FLOPs come closest to ``target``, not below 95 % of it where possible.

    Choices whose distance from the target is the same within 5 % of it are equally close; of these the
    deepest towers win, then the widths nearest to one another: what one would build by hand is the fairer
    opponent.

    Args:
        target: FLOPs of the entry to compare with.
        costs: FLOPs by choice, as :func:`baseline_costs` gives them.
    """
    allowed = [choice for choice, flops in costs.items() if flops >= FLOOR * target] or list(costs)
    distance = {choice: abs(costs[choice] / target - 1) for choice in allowed}
    closest = min(distance.values())
    near = [choice for choice in allowed if distance[choice] <= closest + TIE]
    return min(near, key=lambda c: (-c.depth, abs(math.log(c.fpn_width / c.head_width)), distance[c]))


def cost_size(short_side: int, divisor: int) -> tuple[int, int]:
    """(H, W) at which costs are stated, 800 x 1088 of thesis Table 7.2 in proportion to the short side, for a network
    whose images have sides that are multiples of ``divisor``."""
    return padded_size((short_side, short_side * 1.36), divisor)


def _terms(choices: Iterable[Baseline]) -> np.ndarray:
    """The monomials of the polynomial, one row a choice; widths in units keep the numbers small."""
    rows = []
    for choice in choices:
        fpn, head, depth = choice.fpn_width / UNIT, choice.head_width / UNIT, choice.depth
        rows.append([1, fpn, fpn**2, head, head**2, fpn * head, depth, depth * head, depth * head**2])
    return np.array(rows, np.float64)
