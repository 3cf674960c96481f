"""What a segmenter with bases should give for one image: the detector's targets, and the masks beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nasperc.models.fcos.targets import FCOSTargets
from nasperc.models.instances import Instances
from nasperc.models.targets import stack_targets


class MaskTargets(NamedTuple):
    """Of one image with M annotations; a batch has a leading N, and M is the largest of its images.

    ``detection``: its owners are indices into the other fields. ``boxes`` (M, 4) float32 in input pixels; ``masks``
    (M, R, R) bool, each object inside its box, empty where no location belongs to it. ``semantic`` (H, W) int64, see
    :func:`semantic_target`; None without that loss.
    """

    detection: FCOSTargets
    boxes: Tensor
    masks: Tensor
    semantic: Tensor | None


def owned_masks(instances: Instances, owner: Tensor, side: int) -> Tensor:
    """The annotated masks inside their boxes, (M, R, R) bool; those that own no location are not rasterised.

    Args:
        instances: annotations with masks.
        owner: (P,) int64, of every location, negative where there is none.
        side: R.

    Raises:
        ValueError: the masks are unknown.
    """
    masks, boxes = instances.masks, instances.boxes
    if masks is None or isinstance(masks, Tensor):
        raise ValueError("a mask loss needs annotated masks")
    found = torch.zeros(len(instances), side, side, dtype=torch.bool, device=boxes.device)
    owners = owner[owner >= 0].unique()
    if len(owners) > 0:
        found[owners] = masks[owners].within(boxes[owners], side).to(boxes.device)
    return found


def stack_mask_targets(targets: Sequence[MaskTargets]) -> MaskTargets:
    """Targets of N images as one; boxes and masks are filled up to the largest number of annotations."""
    most = max(len(each.boxes) for each in targets)
    semantic = [each.semantic for each in targets if each.semantic is not None]
    return MaskTargets(
        detection=stack_targets([each.detection for each in targets]),
        boxes=torch.stack([_filled(each.boxes, most) for each in targets]),
        masks=torch.stack([_filled(each.masks, most) for each in targets]),
        semantic=torch.stack(semantic) if semantic else None,
    )


def _filled(values: Tensor, count: int) -> Tensor:
    return torch.cat((values, values.new_zeros(count - len(values), *values.shape[1:])))
