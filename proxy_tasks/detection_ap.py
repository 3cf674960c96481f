"""AP on meta-val as the proxy task measures it: the reward that Fig. 7.9 sets against the loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from nasperc.errors import InputError
from nasperc.evaluation.coco_ap import coco_ap, detections_to_coco
from nasperc.models.fcos.decode import detect
from nasperc.models.fcos.preset import FCOSPreset
from nasperc.models.features import HeadOutput
from proxy_tasks.detection_cache import STRIDES, DetectionCache

GROUND_TRUTH = ("boxes", "box_labels", "box_crowd", "box_count")


class ValidationAP:
    """COCO AP (IoU .50:.95, 0..1) of the views of meta-val; each view counts as an image.

    Args:
        cache: holds the boxes of every view, in pixels of the crop.
        classes: names, in the order of the labels.
        preset: of the head: its rules of inference.
        crop: side of the views in pixels.

    Raises:
        InputError: no view of meta-val has an object that counts, so that AP is not defined.
    """

    def __init__(self, cache: DetectionCache, classes: Sequence[str], preset: FCOSPreset, crop: int) -> None:
        self._preset, self._crop = preset, crop
        annotations = list(_annotations(cache))
        if all(annotation["iscrowd"] for annotation in annotations):
            raise InputError(
                "AP needs an object in meta-val that is not crowd",
                value=f"{len(annotations)} crowd regions in {cache.val} views",
                where="recipe key proxy.reward",
                repair="Use the reward loss, or more images.",
            )
        self._truth: dict[str, Any] = {
            "images": [{"id": view, "height": crop, "width": crop} for view in range(cache.val)],
            "categories": [{"id": label + 1, "name": name} for label, name in enumerate(classes)],
            "annotations": annotations,
        }

    def detections(self, output: HeadOutput, first: int) -> list[dict[str, Any]]:
        """COCO results of a batch of views in order, the first of which is number ``first`` of meta-val."""
        sizes = [(self._crop, self._crop)] * len(output.class_logits[0])
        found = detect(output, STRIDES, sizes, self._preset)
        return [
            result
            for view, each in enumerate(found, start=first)
            for result in detections_to_coco(view, each.boxes, each.scores, each.labels)
        ]

    def measure(self, detections: Sequence[dict[str, Any]]) -> float:
        """AP of the detections of all views."""
        ap = coco_ap(self._truth, detections).ap
        # There are objects.
        assert ap is not None
        return ap


def _annotations(cache: DetectionCache) -> Iterator[dict[str, Any]]:
    records = torch.arange(cache.train, len(cache.reader))
    rows = {name: tensor.tolist() for name, tensor in cache.reader.batch(GROUND_TRUTH, records).items()}
    number = 0
    for view, count in enumerate(rows["box_count"]):
        for box in range(count):
            x1, y1, x2, y2 = rows["boxes"][view][box]
            number += 1
            yield {
                "id": number,
                "image_id": view,
                "category_id": rows["box_labels"][view][box] + 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": rows["box_crowd"][view][box],
            }
