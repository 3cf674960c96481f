from __future__ import annotations

import torch

from nasperc.models.smalmask2.poolers import levels_of_boxes


def test_a_box_is_read_where_its_longer_side_belongs() -> None:
    """L = 64: [64, 128) is the second level's, whatever the shorter side."""
    sides = [
        (1, 1),
        (63.9, 10),
        (64, 10),
        (3, 127.9),
        (128, 128),
        (256, 1),
        (1, 511.9),
        (512, 600),
        (9000, 9),
    ]
    boxes = torch.tensor([[5, 7, 5 + width, 7 + height] for width, height in sides])
    assert levels_of_boxes(boxes, 64, 5).tolist() == [0, 0, 1, 1, 2, 3, 3, 4, 4]
    assert levels_of_boxes(boxes, 128, 5).tolist() == [0, 0, 0, 0, 1, 2, 2, 3, 4]
    assert levels_of_boxes(boxes, 64, 4).tolist() == [0, 0, 1, 1, 2, 3, 3, 3, 3]
    assert levels_of_boxes(boxes, 64, 1).tolist() == [0] * 9
    assert levels_of_boxes(boxes[:0], 64, 5).shape == (0,)
