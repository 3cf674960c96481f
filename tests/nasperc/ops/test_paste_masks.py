import json

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from torch.nn import functional as F

from nasperc.ops import paste_masks
from nasperc.ops.paste_masks import paste, paste_regions, paste_to_rle

SIZE = (40, 56)


@pytest.fixture(params=["box by box", "by products"])
def way(request, monkeypatch):
    """As it is, and as it is exported."""
    monkeypatch.setattr(paste_masks, "is_traced", lambda: request.param == "by products")


def slowly(masks, boxes, size):
    """The values of every pixel of every whole image in float64, by the rule of detectron2; (D, H, W)."""
    height, width = size
    y, x = torch.arange(height).double() + 0.5, torch.arange(width).double() + 0.5
    values = []
    for mask, (x1, y1, x2, y2) in zip(masks.double(), boxes.double().tolist(), strict=True):
        if x2 <= x1 or y2 <= y1:
            values.append(torch.zeros(size, dtype=torch.float64))
            continue
        columns, rows = (x - x1) / (x2 - x1) * 2 - 1, (y - y1) / (y2 - y1) * 2 - 1
        grid = torch.stack((columns.expand(height, width), rows[:, None].expand(height, width)), -1)
        values.append(F.grid_sample(mask[None, None], grid[None], align_corners=False)[0, 0])
    return torch.stack(values)


def some(count=60, side=7):
    """Masks, and boxes inside of the image, across its borders, outside and without area."""
    torch.manual_seed(0)
    masks = torch.rand(count, side, side)
    corner = torch.rand(count, 2) * torch.tensor([70.0, 50.0]) - 10
    boxes = torch.cat((corner, corner + torch.rand(count, 2) ** 2 * 50), 1)
    # Of full height or width, and all of the image.
    boxes[0] = torch.tensor([10.0, -5.0, 30.0, 45.0])
    boxes[1] = torch.tensor([-9.0, 10.0, 70.0, 30.0])
    boxes[2] = torch.tensor([-30.0, -30.0, 90.0, 90.0])
    masks[:3] = masks[:3] / 2 + 0.4
    masks[2] = 1
    # Outside on every side, without area, upside down.
    boxes[3] = torch.tensor([-30.0, 5.0, -2.0, 30.0])
    boxes[4] = torch.tensor([57.0, 5.0, 90.0, 30.0])
    boxes[5] = torch.tensor([5.0, -30.0, 30.0, -1.0])
    boxes[6] = torch.tensor([5.0, 41.0, 30.0, 60.0])
    boxes[7] = torch.tensor([5.0, 5.0, 5.0, 30.0])
    boxes[8] = torch.tensor([20.5, 5.0, 20.5, 30.0])
    boxes[9] = torch.tensor([30.0, 30.0, 10.0, 10.0])
    # One pixel, at a corner of the image too; less than one; between four centres.
    boxes[10] = torch.tensor([20.0, 7.0, 21.0, 8.0])
    boxes[11] = torch.tensor([55.0, 39.0, 56.0, 40.0])
    boxes[12] = torch.tensor([20.3, 7.4, 20.6, 7.6])
    boxes[13] = torch.tensor([20.6, 7.6, 21.4, 8.4])
    return masks, boxes


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("side", [1, 2, 7, 28])
def test_it_is_what_grid_sample_makes_of_whole_images(side):
    masks, boxes = some(side=side)
    values = slowly(masks, boxes, SIZE)
    found = paste(masks, boxes, SIZE)
    assert found.shape == (60, *SIZE)
    assert found.dtype == torch.bool
    clear = (values - 0.5).abs() > 1e-5
    assert clear.float().mean() > 0.999
    assert torch.equal(found[clear], values[clear] > 0.5)
    assert found.any((1, 2)).sum() > 10


@pytest.mark.usefixtures("way")
def test_pixels_at_hand():
    """At the centres of a 3 x 3 mask's own cells nothing is interpolated."""
    mask = torch.tensor([[[0.9, 0.1, 0.6], [0.4, 0.5, 0.2], [0.0, 0.7, 0.49]]])
    expected = torch.zeros(1, 5, 6, dtype=torch.bool)
    expected[0, 1:4, 2:5] = mask[0] >= 0.5
    assert torch.equal(paste(mask, torch.tensor([[2.0, 1.0, 5.0, 4.0]]), (5, 6)), expected)


@pytest.mark.usefixtures("way")
def test_the_zeros_around_a_mask_round_its_corners():
    """Of one cell on 4 x 4 pixels: the outer ones are 3/8 of a cell from its centre, 1 - 3/8 = 0.62, corners 0.39."""
    found = paste(torch.ones(1, 1, 1), torch.tensor([[1.0, 1.0, 5.0, 5.0]]), (6, 6))[0]
    expected = torch.zeros(6, 6, dtype=torch.bool)
    expected[1:5, 1:5] = True
    for row in (1, 4):
        for column in (1, 4):
            expected[row, column] = False
    assert torch.equal(found, expected)


@pytest.mark.parametrize("side", [1, 7, 28])
def test_run_lengths_are_those_of_the_whole_images(side):
    masks, boxes = some(side=side)
    images = paste(masks, boxes, SIZE).numpy().astype(np.uint8)
    found = paste_to_rle(masks, boxes, SIZE)
    assert len(found) == len(images)
    for ours, image in zip(json.loads(json.dumps(found)), images, strict=True):
        theirs = coco_mask.encode(np.asfortranarray(image))
        assert ours == {"size": list(SIZE), "counts": theirs["counts"].decode()}


def test_run_lengths_of_images_that_memory_does_not_hold():
    """Each of these has 4 GB."""
    masks = torch.ones(10, 28, 28)
    boxes = torch.tensor([[60_000.0, 60_000.0, 60_030.0, 60_020.0]]).repeat(10, 1)
    run_lengths = paste_to_rle(masks, boxes, (65_000, 65_000))
    assert coco_mask.area(run_lengths).tolist() == [600] * 10
    assert coco_mask.toBbox(run_lengths[0]).tolist() == [60_000, 60_000, 30, 20]


def test_without_masks():
    masks, boxes = torch.zeros(0, 28, 28), torch.zeros(0, 4)
    assert paste(masks, boxes, SIZE).shape == (0, *SIZE)
    assert paste_to_rle(masks, boxes, SIZE) == []


@pytest.mark.usefixtures("way")
def test_a_box_that_is_no_number_has_no_pixels():
    masks, boxes = some()
    boxes[20], boxes[21, 1] = torch.nan, torch.nan
    assert not paste(masks, boxes, SIZE)[20:22].any()


def test_half_precision_and_a_graph_behind_it():
    masks, boxes = some()
    half = masks.bfloat16().requires_grad_()
    assert torch.equal(paste(half, boxes, SIZE), paste(half.float(), boxes, SIZE))
    assert paste_to_rle(half, boxes, SIZE) == paste_to_rle(half.float(), boxes, SIZE)


def test_it_exports_with_free_sizes(exported):
    dim = torch.export.Dim
    masks_dim = dim("masks", min=0, max=1000)
    image = {0: dim("height", min=2, max=500), 1: dim("width", min=2, max=500)}

    def function(masks, boxes, image):
        return paste(masks, boxes, tuple(image.shape))

    masks, boxes = some()
    runtimes = exported(function, (masks, boxes, torch.zeros(SIZE)), ({0: masks_dim}, {0: masks_dim}, image))
    for size in (SIZE, (70, 33)):
        values = slowly(masks, boxes, size)
        for count in (0, 1, 60):
            clear = ((values - 0.5).abs() > 1e-5)[:count]
            arguments = (masks[:count], boxes[:count], torch.zeros(size))
            expected = function(*arguments)
            for run in runtimes.values():
                found = run(*arguments)
                assert found.shape == (count, *size)
                assert torch.equal(found[clear], expected[clear])


def test_regions_are_the_same_pixels_without_the_image():
    masks, boxes = some()
    images = torch.zeros(len(masks), *SIZE, dtype=torch.bool)
    for image, (top, left, pixels) in zip(images, paste_regions(masks, boxes, SIZE), strict=True):
        image[top : top + pixels.shape[0], left : left + pixels.shape[1]] |= pixels
    assert torch.equal(images, paste(masks, boxes, SIZE))
    assert images.any(dim=(1, 2)).sum() > 20
