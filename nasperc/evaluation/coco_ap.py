"""COCO average precision of boxes or masks by pycocotools: its twelve numbers, and AP by class."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from nasperc.data.coco_masks import encode_masks
from nasperc.errors import InputError
from nasperc.evaluation.federated import FederatedEvaluation, is_federated, of_known_categories

Kind = Literal["bbox", "segm"]

_NUMBERS = (
    *("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
    *("ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large"),
)


@dataclass(frozen=True)
class CocoMetrics:
    """pycocotools' twelve numbers, in 0..1, in its order; ``per_class``: AP (IoU .50:.95) by class name.

    None means undefined: the ground truth has no (non-crowd) object of that kind. A class that has objects and
    no detections has 0.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ar1: float | None
    ar10: float | None
    ar100: float | None
    ar_small: float | None
    ar_medium: float | None
    ar_large: float | None
    per_class: dict[str, float | None] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """All fields as plain values."""
        return asdict(self)


def detections_to_coco(
    image_id: int, boxes: Any, scores: Any, labels: Any, masks: Any = None
) -> list[dict[str, Any]]:
    """Detections of one image in COCO's result format.

    Args:
        image_id: as in the ground truth.
        boxes: (N, 4) tensor or array, (x1, y1, x2, y2) in pixels of the original image.
        scores: (N,).
        labels: (N,) from 0; the category id is the label + 1.
        masks: (N, H, W) bool tensor or array of the original image, or N masks as COCO's run lengths.
    """
    results = [
        {
            "image_id": image_id,
            "category_id": int(label) + 1,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": score,
        }
        for (x1, y1, x2, y2), score, label in zip(_list(boxes), _list(scores), _list(labels), strict=True)
    ]
    if masks is not None:
        run_lengths = encode_masks(masks) if hasattr(masks, "shape") else masks
        for result, segmentation in zip(results, run_lengths, strict=True):
            result["segmentation"] = segmentation
    return results


def coco_results(
    detections: Sequence[dict[str, Any]], category_ids: Sequence[int] | None, *, where: str
) -> list[dict[str, Any]]:
    """Results as a test server takes them: with the category ids of the data set's own annotation file.

    Args:
        detections: as :func:`detections_to_coco` gives them.
        category_ids: by label (``DetectionDataset.category_ids``).
        where: the data set, for the message.

    Raises:
        InputError: the data set has no ids of its own, or not for all of its classes.
    """
    if category_ids is None:
        raise InputError(
            "results for a test server need the data set's own id of every class",
            value="none, or not of all",
            where=where,
            repair="Use a data set in COCO's format that lists all classes, each as a class of its own.",
        )
    return [{**each, "category_id": category_ids[each["category_id"] - 1]} for each in detections]


def coco_ap(
    ground_truth: dict[str, Any], detections: Sequence[dict[str, Any]], kind: Kind = "bbox"
) -> CocoMetrics:
    """Evaluate boxes or masks. Neither argument is changed; no detections, and images without objects, are fine.

    Where images say which categories are annotated in them (``neg_category_ids``, ``not_exhaustive_category_ids``),
    the rules of :mod:`nasperc.evaluation.federated` hold.

    Args:
        ground_truth: COCO instances format (``DetectionDataset.coco_ground_truth()``).
        detections: COCO result format, for images of the ground truth.
        kind: "bbox", or "segm": of both then ``segmentation`` is compared, and a detection's area is its mask's.

    Raises:
        ValueError: a detection names an image that is not in the ground truth; one without a mask where masks are
            evaluated.
    """
    known = {image["id"] for image in ground_truth["images"]}
    stray = sorted({d["image_id"] for d in detections} - known)
    if stray:
        raise ValueError(f"detections name images that are not in the ground truth: {stray[:5]}")
    for name, objects in (("a detection", detections), ("an object", ground_truth["annotations"])):
        if kind == "segm" and not all("segmentation" in each for each in objects):
            raise ValueError(f"{name} has no mask")
    federated = is_federated(ground_truth)
    if federated:
        detections = of_known_categories(ground_truth, detections)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = _index(ground_truth, ground_truth["annotations"])
        # loadRes fails on an empty list; what it would add to each box is added here.
        results = [{**d, "id": k, "area": _area(d, kind), "iscrowd": 0} for k, d in enumerate(detections, 1)]
        evaluate = FederatedEvaluation if federated else COCOeval
        evaluation = evaluate(truth, _index(ground_truth, results), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    # (thresholds, recalls, classes, areas, limits): all areas, 100 detections
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    names = {category["id"]: category["name"] for category in ground_truth["categories"]}
    per_class = {
        names[key]: float(np.mean(values)) if (values := precision[:, :, k])[values > -1].size else None
        for k, key in enumerate(evaluation.params.catIds)
    }
    numbers = {name: _defined(value) for name, value in zip(_NUMBERS, evaluation.stats, strict=True)}
    return CocoMetrics(**numbers, per_class=per_class)


def _area(detection: dict[str, Any], kind: Kind) -> float:
    if kind == "segm":
        return float(coco_mask.area(detection["segmentation"]))
    width, height = detection["bbox"][2:]
    return float(width * height)


def _defined(value: float) -> float | None:
    """pycocotools has -1 for what is undefined; of no image at all numpy's means are NaN."""
    return float(value) if value >= 0 else None


def _index(ground_truth: dict[str, Any], annotations: Sequence[dict[str, Any]]) -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": ground_truth["images"],
        "categories": ground_truth["categories"],
        "annotations": [dict(annotation) for annotation in annotations],
    }
    coco.createIndex()
    return coco


def _list(values: Any) -> list[Any]:
    return values.tolist() if hasattr(values, "tolist") else list(values)
