import json
import sys

import pytest
import torch
from pycocotools import mask as coco_mask

from benchmarks import roi_ops
from benchmarks.roi_ops import IMAGE, coco_boxes, obvious_paste, obvious_rle, obvious_roi_align
from nasperc.ops.paste_masks import paste, paste_to_rle
from nasperc.ops.roi_align import roi_align


def test_boxes_have_the_sizes_of_coco():
    torch.manual_seed(0)
    boxes = coco_boxes(20_000, IMAGE)
    assert boxes.min() >= 0
    assert (boxes[:, 2:] <= torch.tensor((IMAGE[1], IMAGE[0])) + 1e-3).all()
    side = (boxes[:, 2:] - boxes[:, :2]).prod(1).sqrt() * 480 / IMAGE[0]
    assert (side < 32).float().mean().item() == pytest.approx(0.41, abs=0.01)
    # Fewer, since nothing is larger than its image.
    assert 0.2 < (side > 96).float().mean() <= 0.25


def test_the_obvious_ways_do_the_same():
    torch.manual_seed(0)
    boxes = coco_boxes(20, (80, 107))
    features = torch.randn(1, 3, 20, 27)
    index = torch.zeros(20, dtype=torch.int64)
    torch.testing.assert_close(
        obvious_roi_align(features, boxes, 7, 0.25),
        roi_align(features, boxes, index, (7, 7), 0.25, 1),
        atol=1e-4,
        rtol=1e-4,
    )
    masks = torch.rand(20, 7, 7)
    ours, theirs = paste(masks, boxes, (80, 107)), obvious_paste(masks, boxes, (80, 107))
    # Ties apart.
    assert (ours != theirs).sum() <= 2
    areas = coco_mask.area(obvious_rle(masks, boxes, (80, 107)))
    assert (
        abs(areas.astype(int) - coco_mask.area(paste_to_rle(masks, boxes, (80, 107))).astype(int)).max() <= 2
    )


def test_what_it_says(monkeypatch, capsys):
    monkeypatch.setattr(roi_ops, "MAPS", ((4, 64),))
    monkeypatch.setattr(roi_ops, "SIDES", (2,))
    monkeypatch.setattr(roi_ops, "keep_freed_memory", lambda: False)
    monkeypatch.setattr(sys, "argv", ["roi_ops.py", "--boxes", "2", "--rounds", "1", "--json"])
    roi_ops.main()
    said = json.loads(capsys.readouterr().out)
    assert list(said["groups"]) == [
        "4 channels at 1/64, 2x2",
        "pasting masks of 56x56",
        "pasting masks of 56x56, to run lengths",
    ]
    for rows in said["groups"].values():
        first, *others = rows.values()
        assert first["ratio"] == first["best_ratio"] == 1
        assert all(row["best_ms"] > 0 for row in others)
    assert len(said["held"]) == 3
    monkeypatch.setattr(sys, "argv", ["roi_ops.py", "--boxes", "2", "--rounds", "1"])
    roi_ops.main()
    assert "RoIAlign at most 5 gathers: " in capsys.readouterr().out
