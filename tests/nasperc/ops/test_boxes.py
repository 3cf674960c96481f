import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nasperc.ops.boxes import (
    box_area,
    box_iou,
    boxes_to_distances,
    clip_boxes,
    distances_to_boxes,
    locations,
)

corner = st.integers(-20, 20)
box = st.tuples(corner, corner, st.integers(0, 15), st.integers(0, 15)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


def pixels(b):
    return {(x, y) for x in range(b[0], b[2]) for y in range(b[1], b[3])}


@given(st.lists(box, min_size=1, max_size=4), st.lists(box, min_size=1, max_size=4))
def test_iou_and_area_count_pixels(first, second):
    iou = box_iou(torch.tensor(first, dtype=torch.float32), torch.tensor(second, dtype=torch.float32))
    area = box_area(torch.tensor(first, dtype=torch.float32))
    for i, a in enumerate(first):
        assert area[i] == len(pixels(a))
        for j, b in enumerate(second):
            union = len(pixels(a) | pixels(b))
            expected = len(pixels(a) & pixels(b)) / union if union else 0.0
            assert iou[i, j].item() == pytest.approx(expected, abs=1e-6)


def test_iou_of_no_boxes_has_the_shape():
    assert box_iou(torch.zeros(0, 4), torch.zeros(3, 4)).shape == (0, 3)


def test_clipping_moves_corners_inside():
    boxes = torch.tensor([[-5.0, 2.0, 30.0, 40.0], [1.0, 1.0, 3.0, 3.0], [50.0, -9.0, 60.0, -1.0]])
    expected = torch.tensor([[0.0, 2.0, 20.0, 10.0], [1.0, 1.0, 3.0, 3.0], [20.0, 0.0, 20.0, 0.0]])
    assert torch.equal(clip_boxes(boxes, (10, 20)), expected)


def test_locations_are_row_by_row_at_half_strides():
    expected = torch.tensor([[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12]], dtype=torch.float32)
    assert torch.equal(locations((2, 3), 8), expected)
    assert locations((1, 1), 5).tolist() == [[2.0, 2.0]]


def test_distances_and_boxes_are_inverse_for_any_leading_shape():
    torch.manual_seed(0)
    points = locations((3, 2), 16)
    distances = torch.rand(2, 6, 4) * 30
    boxes = distances_to_boxes(points, distances)
    assert boxes.shape == (2, 6, 4)
    (x, y), (left, top, right, bottom) = points[4].tolist(), distances[1, 4].tolist()
    assert boxes[1, 4].tolist() == pytest.approx([x - left, y - top, x + right, y + bottom])
    torch.testing.assert_close(boxes_to_distances(points, boxes), distances)


def test_all_pairs_of_boxes_and_locations():
    points = locations((2, 2), 8)
    boxes = torch.tensor([[0.0, 0.0, 8.0, 8.0], [5.0, 5.0, 16.0, 16.0]])
    inside = (boxes_to_distances(points, boxes[:, None]) > 0).all(-1)
    assert inside.tolist() == [[True, False, False, False], [False, False, False, True]]
