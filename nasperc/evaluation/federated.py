"""COCO's evaluation by the rules of federated annotations: in an image only some categories are annotated.

Of a category that is neither annotated in an image nor among its negative ones nothing is known there, so detections of
it do not count; of one that is not exhaustively annotated there, detections that match no object do not (Gupta et al.,
LVIS, 2019, section 4; LVIS AP* of thesis 4.4.6). Everything else is COCO's, its limit of 100 detections included.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from nasperc.data.federated import NEGATIVE, NOT_EXHAUSTIVE


def is_federated(ground_truth: Mapping[str, Any]) -> bool:
    """Whether the images of a ground truth say which categories are annotated in them."""
    return any(key in image for image in ground_truth["images"] for key in (NEGATIVE, NOT_EXHAUSTIVE))


def of_known_categories(
    ground_truth: Mapping[str, Any], detections: Iterable[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The detections whose category is annotated in their image, or is known not to be there."""
    known = {(image["id"], key) for image in ground_truth["images"] for key in image.get(NEGATIVE, ())}
    known |= {(each["image_id"], each["category_id"]) for each in ground_truth["annotations"]}
    return [each for each in detections if (each["image_id"], each["category_id"]) in known]


class FederatedEvaluation(COCOeval):
    """COCO's evaluation that ignores unmatched detections where the annotation is not exhaustive.

    Args:
        truth: indexed ground truth, images with their lists.
        detections: indexed, of known categories only.
        kind: "bbox" or "segm".
    """

    def __init__(self, truth: COCO, detections: COCO, kind: str) -> None:
        super().__init__(truth, detections, kind)
        self._not_exhaustive = {
            (image["id"], key) for image in truth.dataset["images"] for key in image.get(NOT_EXHAUSTIVE, ())
        }

    def evaluateImg(
        self, image_id: int, category_id: int, area_range: Sequence[float], limit: int
    ) -> dict[str, Any] | None:
        """Of one image and category: as COCO's, with more detections to ignore."""
        found: dict[str, Any] | None = super().evaluateImg(image_id, category_id, area_range, limit)
        if found is not None and (image_id, category_id) in self._not_exhaustive:
            found["dtIgnore"] = (found["dtIgnore"] != 0) | (found["dtMatches"] == 0)
        return found
