"""Shapes of objects against pycocotools, against transformed bitmaps, and against slow readings of the same rules."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from nasperc.data.object_masks import ObjectMasks
from nasperc.data.sample import Meta, Sample
from nasperc.data.transforms import (
    Compose,
    HorizontalFlip,
    MultiScaleResize,
    Pad,
    RandomCrop,
    RandomScale,
    Resize,
)

properties = settings(deadline=None, max_examples=40)
SIZE = (90, 120)


def star(rng: np.random.Generator, size: tuple[int, int] = SIZE, corners: int = 9) -> list[float]:
    """A polygon around a random centre, concave as a rule: x, y, x, y, ..."""
    height, width = size
    radius = rng.uniform(0.15, 0.45) * min(size)
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radii = rng.uniform(0.4, 1.0, corners) * radius
    x = rng.uniform(0.3, 0.7) * width + radii * np.cos(angles)
    y = rng.uniform(0.3, 0.7) * height + radii * np.sin(angles)
    return np.stack((x, y), axis=1).round(2).flatten().tolist()


def filled(segmentation: list[list[float]], size: tuple[int, int] = SIZE) -> np.ndarray:
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))).astype(bool)


def box_of(segmentation: list[list[float]]) -> list[float]:
    points = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in segmentation])
    return [*points.min(axis=0), *points.max(axis=0)]


def iou(one: np.ndarray | torch.Tensor, other: np.ndarray | torch.Tensor) -> float:
    one, other = np.asarray(one), np.asarray(other)
    return float((one & other).sum() / max(1, (one | other).sum()))


def pasted(mask: torch.Tensor, box: list[float], size: tuple[int, int]) -> np.ndarray:
    """A mask in a box back in its image, pixel by pixel: bilinear between the centres of its cells, cut at a half."""
    side, (x1, y1, x2, y2) = len(mask), box
    image = np.zeros(size, bool)

    def value(row: int, column: int) -> float:
        return float(mask[row, column]) if 0 <= row < side and 0 <= column < side else 0.0

    for y in range(max(0, math.floor(y1) - 1), min(size[0], math.ceil(y2) + 1)):
        for x in range(max(0, math.floor(x1) - 1), min(size[1], math.ceil(x2) + 1)):
            v, u = (y + 0.5 - y1) / (y2 - y1) * side - 0.5, (x + 0.5 - x1) / (x2 - x1) * side - 0.5
            row, column = math.floor(v), math.floor(u)
            dv, du = v - row, u - column
            above = (1 - du) * value(row, column) + du * value(row, column + 1)
            below = (1 - du) * value(row + 1, column) + du * value(row + 1, column + 1)
            image[y, x] = (1 - dv) * above + dv * below >= 0.5
    return image


def slow_pooled(mask: np.ndarray, box: list[float], side: int) -> np.ndarray:
    """RoIAlign (aligned, as many samples as a cell has pixels) of one mask by its definition, cut at a half."""
    height, width = mask.shape
    x1, y1, x2, y2 = (each - 0.5 for each in box)
    cell_height, cell_width = (y2 - y1) / side, (x2 - x1) / side
    samples_y, samples_x = math.ceil(cell_height), math.ceil(cell_width)

    def sample(y: float, x: float) -> float:
        if not (-1 <= y <= height and -1 <= x <= width):
            return 0.0
        y, x = min(max(y, 0.0), height - 1), min(max(x, 0.0), width - 1)
        top, left = int(y), int(x)
        bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
        dy, dx = y - top, x - left
        above = (1 - dx) * mask[top, left] + dx * mask[top, right]
        return (1 - dy) * above + dy * ((1 - dx) * mask[bottom, left] + dx * mask[bottom, right])

    means = np.zeros((side, side))
    for row in range(side):
        for column in range(side):
            ys = [y1 + (row + (k + 0.5) / samples_y) * cell_height for k in range(samples_y)]
            xs = [x1 + (column + (k + 0.5) / samples_x) * cell_width for k in range(samples_x)]
            means[row, column] = np.mean([sample(y, x) for y in ys for x in xs])
    return means


@pytest.mark.parametrize("seed", range(5))
def test_bitmaps_of_all_kinds_are_pycocotools_own(seed: int) -> None:
    rng = np.random.default_rng(seed)
    polygons = [[star(rng), star(rng)], [star(rng)], [[-30.0, -20.5, 60.2, 10.1, 20.9, 200.0]]]
    bitmap = filled(polygons[0])
    encoded = coco_mask.encode(np.asfortranarray(bitmap, np.uint8))
    runs = [
        len(list(run))
        for run in np.split(bitmap.T.flatten(), np.flatnonzero(np.diff(bitmap.T.flatten())) + 1)
    ]
    counts = runs if not bitmap[0, 0] else [0, *runs]
    kinds = [
        *polygons,
        {"size": list(SIZE), "counts": encoded["counts"].decode()},
        {"size": list(SIZE), "counts": counts},
    ]
    masks = ObjectMasks.of(kinds, SIZE)
    found = masks.bitmaps()
    assert (len(masks), masks.size) == (5, SIZE)
    assert (found.dtype, found.shape) == (torch.bool, (5, *SIZE))
    for mask, expected in zip(found.numpy(), [*map(filled, polygons), bitmap, bitmap], strict=True):
        np.testing.assert_array_equal(mask, expected)
    assert torch.equal(ObjectMasks.of_bitmaps(found).bitmaps(), found)
    assert torch.equal(pickle.loads(pickle.dumps(masks)).bitmaps(), found)


def test_selection_by_numbers_and_by_truth() -> None:
    rng = np.random.default_rng(0)
    masks = ObjectMasks.of([[star(rng)] for _ in range(4)], SIZE)
    bitmaps = masks.bitmaps()
    for index in (
        torch.tensor([3, 0, 3]),
        torch.tensor([True, False, False, True]),
        torch.tensor([], dtype=torch.int64),
    ):
        assert torch.equal(masks[index].bitmaps(), bitmaps[index])
    assert masks[torch.zeros(4, dtype=torch.bool)].bitmaps().shape == (0, *SIZE)
    assert ObjectMasks.of([], SIZE).within(torch.zeros(0, 4), 7).shape == (0, 7, 7)
    assert ObjectMasks.of([], SIZE).visible().tolist() == []


@pytest.mark.parametrize("side", [28, 56, 97])
def test_target_is_the_mask_where_the_box_is_the_image_and_the_side_its_size(side: int) -> None:
    rng = np.random.default_rng(side)
    shapes = [[star(rng, (side, side))] for _ in range(6)]
    masks = ObjectMasks.of(shapes, (side, side))
    boxes = torch.tensor([[0.0, 0.0, side, side]] * 6)
    assert torch.equal(masks.within(boxes, side), masks.bitmaps())
    as_bitmaps = ObjectMasks.of_bitmaps(masks.bitmaps())
    assert torch.equal(as_bitmaps.within(boxes, side), masks.bitmaps())


@pytest.mark.parametrize("kind", ["polygons", "bitmaps"])
def test_target_of_a_large_region_is_pycocotools_mask_of_it(kind: str) -> None:
    rng = np.random.default_rng(1)
    size, side = (512, 512), 128
    shapes = [[star(rng, size)] for _ in range(12)]
    masks = ObjectMasks.of(shapes, size)
    if kind == "bitmaps":
        masks = ObjectMasks.of_bitmaps(masks.bitmaps())
    region = [32.0, 64.0, 480.0, 448.0]
    found = masks.within(torch.tensor([region] * 12), side)
    for mask, shape in zip(found, shapes, strict=True):
        points = np.reshape(shape[0], (-1, 2))
        enlarged = (points - region[:2]) * (8 * side / np.array([448.0, 384.0]))
        fine = filled([enlarged.flatten().tolist()], (8 * side, 8 * side))
        # What at least half of each cell is covered by, of 8 x 8 pixels.
        expected = fine.reshape(side, 8, side, 8).mean(axis=(1, 3)) >= 0.5
        assert iou(mask, expected) >= 0.985


@pytest.mark.parametrize("side", [28, 56])
@pytest.mark.parametrize("kind", ["polygons", "bitmaps"])
def test_target_pasted_back_is_the_mask(kind: str, side: int) -> None:
    rng = np.random.default_rng(2)
    size = (160, 160)
    shapes = [[star(rng, size)] for _ in range(10)]
    masks = ObjectMasks.of(shapes, size)
    bitmaps = masks.bitmaps()
    if kind == "bitmaps":
        masks = ObjectMasks.of_bitmaps(bitmaps)
    boxes = torch.tensor([box_of(shape) for shape in shapes])
    found = masks.within(boxes, side)
    overlaps = [
        iou(pasted(mask, box, size), whole)
        for mask, box, whole in zip(found, boxes.tolist(), bitmaps, strict=True)
    ]
    assert np.mean(overlaps) >= (0.98 if side == 56 else 0.95)


@properties
@given(st.integers(0, 10_000), st.integers(1, 17))
def test_bitmaps_are_pooled_as_roi_align_is_defined(seed: int, side: int) -> None:
    rng = np.random.default_rng(seed)
    size = (int(rng.integers(3, 24)), int(rng.integers(3, 24)))
    bitmap = rng.random(size) < 0.5
    corner = rng.uniform(-4, 18, 2)
    box = [*corner, *(corner + rng.uniform(0.2, 22, 2))]
    if seed % 2:
        box = [float(round(each)) for each in box[:2]] + [float(round(each) + 1) for each in box[2:]]
    found = ObjectMasks.of_bitmaps(bitmap[None]).within(torch.tensor([box], dtype=torch.float64), side)[0]
    means = slow_pooled(bitmap, box, side)
    # Ties go up, but for rounding.
    clear = np.abs(means - 0.5) > 1e-4
    np.testing.assert_array_equal(found.numpy()[clear], (means >= 0.5)[clear])
    assert found.numpy()[np.abs(means - 0.5) < 1e-7].all()


def moved(masks: ObjectMasks) -> dict[str, ObjectMasks]:
    height, width = masks.size
    return {
        "mirrored": masks.mirrored(),
        "cropped": masks.cropped(20, 30, 75, 100),
        "beyond the end": masks.cropped(50, 60, 150, 200),
        "padded": masks.padded(3, 4, 5, 6),
        "smaller": masks.resized((height // 2, width // 2)),
        "larger": masks.resized((height * 2 + 11, width * 2 + 7)),
        "all": masks.resized((150, 200))
        .cropped(10, 20, 130, 190)
        .mirrored()
        .padded(0, 9, 8, 0)
        .resized((99, 133)),
    }


@pytest.mark.parametrize("name", list(moved(ObjectMasks.of([], SIZE))))
def test_transformed_polygons_are_near_transformed_bitmaps(name: str) -> None:
    rng = np.random.default_rng(3)
    shapes = [[star(rng), star(rng)] for _ in range(8)]
    polygons = moved(ObjectMasks.of(shapes, SIZE))[name]
    bitmaps = moved(ObjectMasks.of_bitmaps(ObjectMasks.of(shapes, SIZE).bitmaps()))[name]
    assert polygons.size == bitmaps.size
    for one, other in zip(polygons.bitmaps(), bitmaps.bitmaps(), strict=True):
        if name in ("smaller", "larger", "all"):
            assert iou(one, other) >= 0.85
        else:
            # Pixels are moved as a whole.
            assert torch.equal(one, other)


def tensor_twin(name: str) -> Callable[[torch.Tensor], torch.Tensor]:
    def nearest(masks: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        rows, columns = (
            torch.tensor([int((k + 0.5) * have / want) for k in range(want)])
            for have, want in zip(masks.shape[-2:], size, strict=True)
        )
        return masks[:, rows][:, :, columns]

    pad = torch.nn.functional.pad
    return {
        "mirrored": lambda masks: masks.flip(-1),
        "cropped": lambda masks: masks[:, 20:75, 30:100],
        "beyond the end": lambda masks: masks[:, 50:150, 60:200],
        "padded": lambda masks: pad(masks, (3, 4, 5, 6)),
        "smaller": lambda masks: nearest(masks, (45, 60)),
        "larger": lambda masks: nearest(masks, (191, 247)),
        "all": lambda masks: nearest(
            pad(nearest(masks, (150, 200))[:, 10:130, 20:190].flip(-1), (0, 9, 8, 0)), (99, 133)
        ),
    }[name]


@pytest.mark.parametrize("name", list(moved(ObjectMasks.of([], SIZE))))
def test_transformed_bitmaps_are_transformed_pixel_by_pixel(name: str) -> None:
    bitmaps = torch.from_numpy(np.random.default_rng(4).random((5, *SIZE)) < 0.4)
    found = moved(ObjectMasks.of_bitmaps(bitmaps))[name]
    expected = tensor_twin(name)(bitmaps)
    assert torch.equal(found.bitmaps(), expected)
    assert torch.equal(found.visible(), expected.flatten(1).any(dim=1))
    height, width = found.size
    boxes = torch.tensor([[0.3, 1.2, width - 4.5, height - 2.25]] * 5)
    assert torch.equal(found.within(boxes, 14), ObjectMasks.of_bitmaps(expected).within(boxes, 14))


def test_what_was_cut_off_does_not_come_back_with_padding() -> None:
    # A polygon that reaches over the border of its image, and one that a crop divides.
    masks = ObjectMasks.of([[[-20, 10, 20, 10, 20, 30, -20, 30]], [[50, 50, 90, 50, 90, 80, 50, 80]]], SIZE)
    changed = masks.cropped(0, 0, 60, 70).padded(25, 30, 0, 35)
    bitmaps = changed.bitmaps()
    assert (changed.size, bitmaps.sum(dim=(1, 2)).tolist()) == ((95, 125), [20 * 20, 20 * 10])
    assert bitmaps[0, 10:30, 25:45].all()
    assert bitmaps[1, 50:60, 75:95].all()
    boxes = torch.tensor([[5.0, 10.0, 45.0, 30.0], [75.0, 50.0, 115.0, 80.0]])
    inside = changed.within(boxes, 20)
    assert torch.equal(inside[0], torch.arange(20).expand(20, 20) >= 10)
    expected = torch.zeros(20, 20, dtype=torch.bool)
    expected[:7, :10] = True
    # The cut is at 6.67 cells.
    assert (inside[1] ^ expected).sum() == 0


def test_resized_polygons_are_as_fine_as_their_points() -> None:
    """Targets do not become coarser by a resized image, as those of bitmaps do."""
    rng = np.random.default_rng(5)
    shapes = [[star(rng)] for _ in range(6)]
    masks, boxes = ObjectMasks.of(shapes, SIZE), torch.tensor([box_of(shape) for shape in shapes])
    larger = masks.resized((180, 240)).within(boxes * 2, 56)
    assert (larger ^ masks.within(boxes, 56)).sum() <= 6


@pytest.mark.parametrize(
    "shape",
    [
        # One pixel; a line; a point three times; far outside; along the border; an empty bitmap.
        [[10, 10, 11, 10, 11, 11, 10, 11]],
        [[10, 10, 20, 10, 15, 10]],
        [[5, 5, 5, 5, 5, 5]],
        [[500, 500, 600, 500, 600, 600]],
        [[120, 0, 120, 90, 119.9, 45]],
        {"size": [90, 120], "counts": [10_800]},
    ],
)
@pytest.mark.parametrize(
    "box",
    [
        [10.0, 10.0, 11.0, 11.0],
        [30.0, 30.0, 30.0, 30.0],
        [-50.0, -50.0, -40.0, -45.0],
        [5.0, 5.0, 5.001, 90.0],
    ],
)
def test_odd_shapes_in_odd_boxes(shape: list[list[float]] | dict, box: list[float]) -> None:
    masks = ObjectMasks.of([shape], SIZE)
    assert masks.within(torch.tensor([box]), 28).shape == (1, 28, 28)
    for changed in moved(masks).values():
        assert changed.within(torch.tensor([box]), 28).shape == (1, 28, 28)
        assert torch.equal(changed.visible(), changed.bitmaps().flatten(1).any(dim=1))


def test_object_of_one_pixel_fills_its_box() -> None:
    masks = ObjectMasks.of([[[10, 10, 11, 10, 11, 11, 10, 11]]], SIZE)
    assert masks.bitmaps().nonzero().tolist() == [[0, 10, 10]]
    assert masks.within(torch.tensor([[10.0, 10.0, 11.0, 11.0]]), 28).all()
    as_bitmap = ObjectMasks.of_bitmaps(masks.bitmaps())
    assert as_bitmap.within(torch.tensor([[10.0, 10.0, 11.0, 11.0]]), 28)[0, 7:21, 7:21].all()


def test_a_polygon_that_is_vast_beside_its_box_is_read_as_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    size = (600, 800)
    masks = ObjectMasks.of([[[0, 0, 800, 0, 800, 600, 0, 300]]], size)
    filled_at: list[tuple[int, int]] = []

    def noted(polygons: list[np.ndarray], size: tuple[int, int]) -> dict:
        filled_at.append(size)
        return coco_mask.merge(coco_mask.frPyObjects([each.flatten() for each in polygons], *size))

    monkeypatch.setattr("nasperc.data.object_masks.fill_polygons", noted)
    inside = masks.within(torch.tensor([[300.0, 100.0, 302.0, 101.0]]), 56)
    assert inside.all()
    assert not masks.within(torch.tensor([[10.0, 590.0, 12.0, 591.0]]), 56).any()
    masks.within(torch.tensor([[0.0, 0.0, 800.0, 600.0]]), 56)
    assert filled_at == [size, size, (56, 56)]


def sample_of(masks: ObjectMasks, boxes: torch.Tensor) -> Sample:
    return Sample(
        image=torch.zeros(3, *masks.size, dtype=torch.uint8),
        meta=Meta(1, Path("a.png"), masks.size),
        boxes=boxes,
        labels=torch.arange(len(boxes)),
        crowd=torch.zeros(len(boxes), dtype=torch.bool),
        masks=masks,
    )


@properties
@given(st.integers(0, 10_000))
def test_every_transform_carries_polygons_with_their_boxes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shapes = [[star(rng)] for _ in range(4)]
    sample = sample_of(ObjectMasks.of(shapes, SIZE), torch.tensor([box_of(shape) for shape in shapes]))
    transform = Compose(
        RandomScale(0.5, 2),
        Pad((100, 130)),
        MultiScaleResize((60, 90), 200),
        RandomCrop((64, 64)),
        HorizontalFlip(),
    )
    out = transform(sample, rng)
    assert out.masks is not None
    assert len(out.boxes) == len(out.labels) == len(out.masks) >= 1
    assert out.masks.size == out.image.shape[-2:] == (64, 64)
    assert out.masks.visible().all()
    for mask, (x1, y1, x2, y2) in zip(out.masks.bitmaps(), out.boxes.tolist(), strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        # A polygon is filled where half of a pixel is covered, or nearly so.
        assert columns[0] >= x1 - 1
        assert rows[0] >= y1 - 1
        assert columns[-1] + 1 <= x2 + 1
        assert rows[-1] + 1 <= y2 + 1


def test_instances_of_a_sample_are_its_fields() -> None:
    rng = np.random.default_rng(6)
    shapes = [[star(rng)] for _ in range(3)]
    sample = sample_of(ObjectMasks.of(shapes, SIZE), torch.tensor([box_of(shape) for shape in shapes]))
    instances = Resize(45, 1000)(sample, rng).instances
    kept = instances[torch.tensor([2, 0])]
    assert kept.labels.tolist() == [2, 0]
    assert torch.equal(kept.masks.bitmaps(), instances.masks.bitmaps()[[2, 0]])
    assert instances.to("cpu").masks is instances.masks
    assert replace(sample, masks=None).instances.masks is None
    with pytest.raises(ValueError, match=r"a\.png has no boxes"):
        sample.with_fields(boxes=None).instances  # noqa: B018
