from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nasperc.models.fcos.preset import SIZES_OF_INTEREST
from nasperc.models.fcos.targets import FCOSTargets, fcos_targets
from nasperc.models.targets import BACKGROUND, IGNORE, NO_OWNER

SIZES = ((-1.0, 8.0), (8.0, 16.0), (16.0, math.inf))
STRIDES = (4, 8, 16)
LEVEL_SIZES = [(8, 10), (4, 5), (2, 3)]


def slow_targets(
    boxes: list[list[float]], labels: list[int], crowd: list[bool], radius: float | None, scale: float
) -> list[tuple[int, tuple[float, ...], float, int]]:
    """One location and one box at a time, in the order of the definition: label, distances, centerness, owner."""
    result = []
    for (height, width), stride, (low, high) in zip(LEVEL_SIZES, STRIDES, SIZES, strict=True):
        for row in range(height):
            for column in range(width):
                x, y = stride // 2 + column * stride, stride // 2 + row * stride
                best: tuple[float, int] | None = None
                ignored = False
                for index, (x1, y1, x2, y2) in enumerate(boxes):
                    inside = x1 < x < x2 and y1 < y < y2
                    if crowd[index]:
                        ignored |= inside
                        continue
                    if radius is not None:
                        cx, cy, r = (x1 + x2) / 2, (y1 + y2) / 2, radius * stride
                        region = (max(x1, cx - r), max(y1, cy - r), min(x2, cx + r), min(y2, cy + r))
                        inside = region[0] < x < region[2] and region[1] < y < region[3]
                    longest = max(x - x1, y - y1, x2 - x, y2 - y)
                    if not inside or not low * scale <= longest <= high * scale:
                        continue
                    key = ((x2 - x1) * (y2 - y1), index)
                    best = key if best is None else min(best, key)
                if best is None:
                    label = IGNORE if ignored else BACKGROUND
                    result.append((label, (0.0, 0.0, 0.0, 0.0), 0.0, NO_OWNER))
                    continue
                x1, y1, x2, y2 = boxes[best[1]]
                left, top, right, bottom = x - x1, y - y1, x2 - x, y2 - y
                centerness = min(left, right) / max(left, right) * min(top, bottom) / max(top, bottom)
                sides = (left, top, right, bottom)
                result.append((labels[best[1]], sides, math.sqrt(centerness), best[1]))
    return result


def targets_of(
    boxes: list[list[float]], labels: list[int], crowd: list[bool], radius: float | None, scale: float
) -> FCOSTargets:
    return fcos_targets(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(labels, dtype=torch.int64),
        torch.tensor(crowd, dtype=torch.bool),
        LEVEL_SIZES,
        STRIDES,
        SIZES,
        radius,
        scale,
    )


@st.composite
def box(draw: st.DrawFn) -> list[float]:
    x1, y1 = draw(st.integers(0, 38)), draw(st.integers(0, 30))
    return [x1, y1, draw(st.integers(x1 + 1, 40)), draw(st.integers(y1 + 1, 32))]


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(box(), st.integers(0, 4), st.booleans()), max_size=8),
    st.sampled_from([None, 0.5, 1.0, 1.5]),
    st.sampled_from([1.0, 0.5, 2.0]),
)
def test_it_agrees_with_the_loop(
    objects: list[tuple[list[float], int, bool]], radius: float | None, scale: float
) -> None:
    boxes, labels, crowd = ([each[field] for each in objects] for field in range(3))
    found = targets_of(boxes, labels, crowd, radius, scale)
    wanted = slow_targets(boxes, labels, crowd, radius, scale)
    assert found.labels.tolist() == [each[0] for each in wanted]
    assert found.distances.tolist() == [list(each[1]) for each in wanted]
    torch.testing.assert_close(found.centerness, torch.tensor([each[2] for each in wanted]))
    assert found.owner is not None
    assert found.owner.tolist() == [each[3] for each in wanted]


def one_level(
    boxes: list[list[float]], size: tuple[float, float] = (-1, 64), **options: float
) -> FCOSTargets:
    """A map of 4 x 4 locations at stride 8; box i has label i."""
    labels, crowd = torch.arange(len(boxes)), torch.zeros(len(boxes), dtype=torch.bool)
    return fcos_targets(torch.tensor(boxes), labels, crowd, [(4, 4)], [8], (size,), **options)


def positives(targets: FCOSTargets) -> Tensor:
    """Labels as the 4 x 4 map."""
    return targets.labels.reshape(4, 4)


def test_a_hand_computed_box() -> None:
    # Locations 4, 12, 20, 28; strictly inside (4, 4, 24, 16): x in {12, 20}, y in {12}.
    targets = one_level([[4, 4, 24, 16]])
    assert (positives(targets) == 0).nonzero().tolist() == [[1, 1], [1, 2]]
    assert targets.distances[5].tolist() == [8, 8, 12, 4]
    assert targets.centerness[5].item() == pytest.approx(math.sqrt(8 / 12 * 4 / 8))


@pytest.mark.parametrize(
    ("size", "positive"), [((0, 12), True), ((0, 11.9), False), ((12, 20), True), ((12.1, 20), False)]
)
def test_both_ends_of_a_size_of_interest_belong_to_it(size: tuple[float, float], positive: bool) -> None:
    # At (12, 12) the largest distance is exactly 12.
    assert (one_level([[4, 4, 24, 16]], size).labels[5] == 0).item() is positive


def test_the_smaller_box_wins_and_the_first_of_equals() -> None:
    assert positives(one_level([[0, 0, 32, 32], [0, 0, 16, 16]]))[0, 0] == 1
    assert positives(one_level([[0, 0, 16, 16], [0, 0, 32, 32]]))[0, 0] == 0
    assert positives(one_level([[0, 0, 8, 32], [0, 0, 32, 8]]))[0, 0] == 0


def test_crowds_count_in_the_numbering_of_the_owners() -> None:
    boxes = [[0.0, 0.0, 32.0, 32.0], [0.0, 0.0, 32.0, 32.0], [0.0, 0.0, 16.0, 16.0], [24.0, 24.0, 32.0, 32.0]]
    crowd = torch.tensor([True, False, True, False])
    targets = fcos_targets(torch.tensor(boxes), torch.tensor([5, 6, 7, 5]), crowd, [(4, 4)], [8], ((-1, 64),))
    assert targets.owner is not None
    # The one at (28, 28) belongs to the smaller box; crowd owns nothing.
    assert targets.owner.tolist() == [1] * 15 + [3]
    assert targets.labels.tolist() == [6] * 15 + [5]


def test_the_sizes_of_interest_shrink_with_the_proxy() -> None:
    box = [[0.0, 0.0, 32.0, 32.0]]
    assert (one_level(box, (-1, 64)).labels == 0).all()
    assert (one_level(box, (-1, 64), size_scale=0.25).labels == BACKGROUND).all()
    assert (one_level(box, (-1, 64), size_scale=0.35).labels == 0).sum() == 4


def test_centre_sampling_keeps_the_middle() -> None:
    assert (positives(one_level([[0, 0, 32, 32]], centre_sampling_radius=0.75)) == 0).sum() == 4
    assert (positives(one_level([[0, 0, 32, 32]], centre_sampling_radius=0.5)) == 0).sum() == 0


def test_an_image_without_objects_is_background() -> None:
    targets = targets_of([], [], [], None, 1.0)
    assert (targets.labels == BACKGROUND).all()
    assert targets.labels.dtype == torch.int64
    assert targets.distances.shape == (len(targets.labels), 4)
    assert targets.owner is not None
    assert (targets.owner == NO_OWNER).all()


@pytest.mark.parametrize(("side", "level"), [(64, 0), (128, 1), (256, 2), (512, 3), (1024, 4)])
def test_each_level_takes_its_sizes(side: int, level: int) -> None:
    # From inside a square of side s the largest distance lies between s / 2 and s.
    strides = (8, 16, 32, 64, 128)
    sizes = [(1024 // stride, 1024 // stride) for stride in strides]
    low, high = 512 - side / 2, 512 + side / 2
    square, label, crowd = torch.tensor([[low, low, high, high]]), torch.tensor([3]), torch.tensor([False])
    targets = fcos_targets(square, label, crowd, sizes, strides, SIZES_OF_INTEREST)
    positive = [bool((part == 3).any()) for part in targets.labels.split([h * w for h, w in sizes])]
    assert positive == [each == level for each in range(5)]
