import copy
import json

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from nasperc.data.coco_masks import encode_masks
from nasperc.errors import InputError
from nasperc.evaluation.coco_ap import coco_ap, coco_results, detections_to_coco

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


def discs(rng: np.random.Generator, count: int, size: tuple[int, int] = (120, 150)) -> np.ndarray:
    """Masks (M, H, W) of discs."""
    y, x = np.mgrid[: size[0], : size[1]]
    centres = rng.uniform(0.1, 0.9, (count, 2)) * size
    radii = np.exp(rng.uniform(np.log(4), np.log(50), count))
    return np.hypot(y - centres[:, :1, None], x - centres[:, 1:, None]) < radii[:, None, None]


def boxes_around(masks: np.ndarray) -> list[list[float]]:
    found = []
    for mask in masks:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        found.append([float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)])
    return found


@pytest.fixture
def masks_and_detections() -> tuple[dict, list[dict]]:
    """Five images of discs of three classes, annotated as polygons, run lengths of both kinds and crowds, found
    shifted, with other classes and with false ones between."""
    rng = np.random.default_rng(0)
    annotations, detections = [], []
    for image_id in range(1, 6):
        masks = discs(rng, 6)
        for k, (mask, box) in enumerate(zip(masks, boxes_around(masks), strict=True)):
            x1, y1, x2, y2 = box
            (segmentation,) = encode_masks(mask[None])
            if k == 1:
                segmentation = [[x1, y1, x2, y1, x2, y2, x1, y2]]
            if k == 2:
                column = mask.T.flatten()
                runs = [len(run) for run in np.split(column, np.flatnonzero(np.diff(column)) + 1)]
                segmentation = {"size": list(mask.shape), "counts": [0, *runs] if column[0] else runs}
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": k % 3 + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": float(mask.sum()),
                    "iscrowd": int(k == 5),
                    "segmentation": segmentation,
                }
            )
        found = np.concatenate([np.roll(masks, tuple(rng.integers(-4, 5, 2)), axis=(1, 2)), discs(rng, 3)])
        kept = found.any(axis=(1, 2))
        labels = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2])
        labels[rng.integers(9)] = 0
        detections += detections_to_coco(
            image_id,
            torch.tensor(boxes_around(found[kept])),
            torch.from_numpy(rng.random(kept.sum())),
            labels[kept],
            torch.from_numpy(found[kept]),
        )
    truth = {
        "images": [{"id": k, "height": 120, "width": 150} for k in range(1, 6)],
        "categories": [{"id": k, "name": name} for k, name in enumerate("abc", 1)],
        "annotations": annotations,
    }
    return truth, detections


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_numbers_are_pycocotools_own_of_boxes_and_masks(masks_and_detections, kind, capsys):
    truth, detections = masks_and_detections
    before = copy.deepcopy((truth, detections))
    found = coco_ap(truth, detections, kind)
    assert (truth, detections) == before
    coco = COCO()
    coco.dataset = copy.deepcopy(truth)
    coco.createIndex()
    # Of results with both, loadRes takes the areas of boxes, also for masks.
    other = {"bbox": "segmentation", "segm": "bbox"}[kind]
    results = [{key: value for key, value in each.items() if key != other} for each in detections]
    evaluation = COCOeval(coco, coco.loadRes(results), kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    numbers = [value for name, value in found.as_dict().items() if name != "per_class"]
    assert [-1 if value is None else value for value in numbers] == evaluation.stats.tolist()
    assert 0.1 < found.ap < 0.9
    assert coco_ap(truth, detections, "bbox" if kind == "segm" else "segm").ap != found.ap
    capsys.readouterr()


def test_perfect_masks_in_wrong_boxes_are_perfect(masks_and_detections):
    truth, _ = masks_and_detections
    objects = [each for each in truth["annotations"] if not each["iscrowd"]]
    coco = COCO()
    coco.dataset = truth
    coco.createIndex()
    detections = []
    for each in objects:
        mask = coco.annToMask(each)
        detections += detections_to_coco(
            each["image_id"], [[0, 0, 9, 9]], [0.9], [each["category_id"] - 1], mask[None]
        )
    assert coco_ap(truth, detections, "segm").ap == pytest.approx(1.0)
    assert coco_ap(truth, detections).ap < 0.1


def test_area_of_a_detected_mask_is_the_masks_own():
    # A ring of 316 pixels in a box of 2500: a small object, and so is its detection.
    ring = np.ones((50, 50), bool)
    ring[2:-2, 2:-2] = False
    (segmentation,) = encode_masks(ring[None])
    truth = {
        "images": [{"id": 1, "height": 50, "width": 50}],
        "categories": [{"id": 1, "name": "ring"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 0}
            | {"segmentation": [[0, 0, 9, 0, 9, 9, 0, 9]]}
        ],
    }
    detections = [
        {"image_id": 1, "category_id": 1, "bbox": [0, 0, 50, 50], "score": 0.9, "segmentation": segmentation},
        *detections_to_coco(1, [[0, 0, 9, 9]], [0.5], [0], [coco_mask_of_square()]),
    ]
    # As a small false one before the hit it halves the precision; as a medium one it would not count.
    assert coco_ap(truth, detections, "segm").ap_small == pytest.approx(0.5)
    assert coco_ap(truth, detections).ap_small == pytest.approx(1.0)


def coco_mask_of_square() -> dict:
    return coco_mask.frPyObjects([[0.0, 0.0, 9.0, 0.0, 9.0, 9.0, 0.0, 9.0]], 50, 50)[0]


def test_masks_missing_where_masks_are_evaluated():
    detections = detect(1, [10, 10, 30, 30], 0.9)
    with pytest.raises(ValueError, match="a detection has no mask"):
        coco_ap(ground_truth(), detections, "segm")
    with pytest.raises(ValueError, match="an object has no mask"):
        coco_ap(ground_truth(), [], "segm")


def test_detections_with_masks_are_plain_values():
    masks = np.zeros((2, 4, 6), bool)
    masks[0, 1:3, 2:5] = True
    for kind in (np.asarray, torch.from_numpy):
        results = detections_to_coco(3, [[2, 1, 5, 3], [0, 0, 1, 1]], [0.5, 0.25], [1, 0], kind(masks))
        assert json.loads(json.dumps(results)) == results
        for result, mask in zip(results, masks, strict=True):
            np.testing.assert_array_equal(coco_mask.decode(result["segmentation"]), mask)
    none = np.zeros((0, 4, 6), bool)
    assert detections_to_coco(3, np.zeros((0, 4)), np.zeros(0), np.zeros(0), none) == []


def test_results_carry_the_ids_of_the_data_set():
    detections = [*detect(9, [0, 0, 5, 5], 0.5), *detect(9, [0, 0, 5, 5], 0.25, label=1)]
    results = coco_results(detections, (17, 3), where="pets test")
    assert [each["category_id"] for each in results] == [17, 3]
    assert [each["category_id"] for each in detections] == [1, 2]
    assert results[0] == {**detections[0], "category_id": 17}
    with pytest.raises(
        InputError, match=r"own id of every class, but got none, or not of all \(in pets test\)"
    ):
        coco_results(detections, None, where="pets test")
