import copy
import json

import numpy as np
import pytest
import torch

from nasperc.evaluation.coco_ap import coco_ap, detections_to_coco

# Image 1: a small and a large cat. Image 2: a medium cat, and a dog that is crowd. Image 3: nothing.
BOXES = {1: [[10, 10, 30, 30], [50, 50, 250, 250]], 2: [[0, 0, 50, 50]]}


def ground_truth() -> dict:
    annotations = []
    for image_id, boxes in BOXES.items():
        for x1, y1, x2, y2 in boxes:
            area = (x2 - x1) * (y2 - y1)
            annotations.append((image_id, 1, [x1, y1, x2 - x1, y2 - y1], area, 0))
    annotations.append((2, 2, [100, 100, 100, 100], 10_000, 1))
    keys = ("image_id", "category_id", "bbox", "area", "iscrowd")
    return {
        "images": [{"id": k, "height": 300, "width": 300} for k in (1, 2, 3)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"id": k, **dict(zip(keys, a, strict=True))} for k, a in enumerate(annotations, start=1)
        ],
    }


def detect(image_id: int, box: list[float], score: float, label: int = 0) -> list[dict]:
    return detections_to_coco(image_id, torch.tensor([box]), torch.tensor([score]), torch.tensor([label]))


def test_perfect_detections():
    detections = [d for k, boxes in BOXES.items() for box in boxes for d in detect(k, box, 0.9)]
    metrics = coco_ap(ground_truth(), detections)
    for name in ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar10", "ar100"):
        assert getattr(metrics, name) == pytest.approx(1.0), name
    # One detection an image: two of the three cats.
    assert metrics.ar1 == pytest.approx(2 / 3)
    assert metrics.per_class == {"cat": pytest.approx(1.0), "dog": None}


def test_by_hand():
    # In order of score: a hit of IoU 0.64, a miss, an exact hit; the third cat is not found.
    detections = [
        *detect(1, [50, 50, 210, 210], 0.9),
        *detect(3, [0, 0, 40, 40], 0.8),
        *detect(2, [0, 0, 50, 50], 0.7),
    ]
    metrics = coco_ap(ground_truth(), detections)

    def interpolated(precision_by_recall: list[tuple[float, float]]) -> float:
        """Mean over the 101 recalls of the best precision at that recall or beyond."""
        best = [
            max((p for r, p in precision_by_recall if r >= t), default=0.0) for t in np.linspace(0, 1, 101)
        ]
        return float(np.mean(best))

    loose = interpolated([(1 / 3, 1.0), (1 / 3, 1 / 2), (2 / 3, 2 / 3)])
    strict = interpolated([(0.0, 0.0), (0.0, 0.0), (1 / 3, 1 / 3)])
    assert metrics.ap50 == pytest.approx(loose)
    assert metrics.ap75 == pytest.approx(strict)
    # IoU 0.64 passes the thresholds 0.50, 0.55 and 0.60 of ten.
    assert metrics.ap == pytest.approx((3 * loose + 7 * strict) / 10)
    assert metrics.ar100 == pytest.approx((3 * 2 / 3 + 7 * 1 / 3) / 10)
    # Of medium size are the miss and, after it, the exact hit; the large ones are ignored.
    assert metrics.ap_medium == pytest.approx(1 / 2)
    # 3 of 10 thresholds pass for the large cat, and no large box misses before it.
    assert metrics.ap_large == pytest.approx(3 / 10)
    assert metrics.ap_small == 0.0
    assert metrics.per_class["cat"] == pytest.approx(metrics.ap)


def test_detections_in_crowd_do_not_count():
    detections = [d for k, boxes in BOXES.items() for box in boxes for d in detect(k, box, 0.5)]
    in_crowd = detect(2, [110, 110, 150, 150], 0.9, label=1)
    assert coco_ap(ground_truth(), detections + in_crowd) == coco_ap(ground_truth(), detections)


def test_nothing_detected_is_zero_and_nothing_there_is_undefined(capsys):
    metrics = coco_ap(ground_truth(), [])
    assert (metrics.ap, metrics.ar100, metrics.per_class) == (0.0, 0.0, {"cat": 0.0, "dog": None})
    empty = {**ground_truth(), "annotations": []}
    for detections in ([], detect(1, [0, 0, 5, 5], 0.5)):
        metrics = coco_ap(empty, detections)
        assert set(metrics.per_class.values()) == {None}
        assert (metrics.ap, metrics.ap_small, metrics.ar1) == (None, None, None)
    assert capsys.readouterr().out == ""


def test_arguments_are_left_as_they_are_and_the_result_is_plain():
    truth, detections = ground_truth(), detect(1, [10, 10, 30, 30], 0.9)
    before = copy.deepcopy((truth, detections))
    metrics = coco_ap(truth, detections)
    assert (truth, detections) == before
    assert json.loads(json.dumps(metrics.as_dict())) == metrics.as_dict()
    assert len(metrics.as_dict()) == 13


def test_image_id_zero_is_checked_like_any_other():
    with pytest.raises(ValueError, match=r"not in the ground truth: \[0\]"):
        coco_ap(ground_truth(), detect(0, [0, 0, 1, 1], 0.5))


def test_detections_to_coco_of_lists_arrays_and_tensors():
    boxes, scores, labels = [[1.0, 2.0, 4.0, 8.0]], [0.5], [3]
    expected = [{"image_id": 9, "category_id": 4, "bbox": [1.0, 2.0, 3.0, 6.0], "score": 0.5}]
    for kind in (list, np.array, torch.tensor):
        assert detections_to_coco(9, kind(boxes), kind(scores), kind(labels)) == expected
    assert detections_to_coco(9, torch.zeros(0, 4), torch.zeros(0), torch.zeros(0)) == []
