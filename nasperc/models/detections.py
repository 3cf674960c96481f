"""Which of the candidates of one image are its detections, whatever detector found them."""

from __future__ import annotations

from nasperc.models.instances import Instances
from nasperc.ops.boxes import box_area
from nasperc.ops.nms import batched_nms


def drop_empty(found: Instances) -> Instances:
    """Those whose box has an area.

    What lies in the padding altogether has none once it is clipped to the image: it must not take one of the places.
    """
    return found[box_area(found.boxes) > 0]


def keep_best(found: Instances, nms_iou: float, count: int) -> Instances:
    """What class-wise suppression leaves, by descending score: the ``count`` best, and all that tie with the last one.

    Args:
        found: candidates with ``scores`` and ``labels``.
        nms_iou: what overlaps a better one of its class by more goes.
        count: of detections.
    """
    assert found.scores is not None
    assert found.labels is not None
    kept = batched_nms(found.boxes, found.scores, found.labels, nms_iou)
    if len(kept) > count:
        kept = kept[found.scores[kept] >= found.scores[kept[count - 1]]]
    return found[kept]
