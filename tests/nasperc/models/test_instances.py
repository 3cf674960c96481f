from __future__ import annotations

import torch

from nasperc.models.instances import Instances


def test_rescaling_clips_and_drops_what_is_outside() -> None:
    found = Instances(
        boxes=torch.tensor([[10.0, 10, 30, 20], [-5, -5, 5, 5], [110, 0, 130, 10], [0, 60, 10, 60]]),
        scores=torch.tensor([0.9, 0.8, 0.7, 0.6]),
        labels=torch.tensor([0, 1, 2, 0]),
    )
    scaled = found.rescale((50, 100), (100, 300))
    assert scaled.boxes.tolist() == [[30, 20, 90, 40], [0, 0, 15, 10]]
    assert scaled.labels.tolist() == [0, 1]
    torch.testing.assert_close(scaled.scores, torch.tensor([0.9, 0.8]))
    assert torch.equal(scaled.mask_boxes, scaled.boxes)


def test_the_boxes_that_masks_were_pooled_with_are_scaled_and_not_clipped() -> None:
    boxes = torch.tensor([[110.0, 0, 130, 10], [-5, -5, 5, 5]])
    scaled = Instances(boxes, pooled=boxes).rescale((50, 100), (100, 300))
    assert scaled.boxes.tolist() == [[0, 0, 15, 10]]
    assert scaled.mask_boxes.tolist() == [[-15, -10, 15, 10]]
