"""Instances and a semantic map to one panoptic segmentation: the rule of Panoptic-FPN (Kirillov et al. 2019, 4; thesis
4.4.4).

Legend used in shapes: D instances, R side of a mask inside its box, (H, W) the image.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from nasperc.models.instances import Instances
from nasperc.models.panoptic.segmentation import THINGS, VOID, PanopticSegmentation
from nasperc.ops.paste_masks import Region, paste_regions


class MergeRecipe(BaseModel):
    """The defaults are the thesis's; detectron2's are 0.5, 0.5 and 4096.

    ``confidence``: the lowest score of an instance. ``overlap``: the largest share of an instance that better ones may
    cover. ``stuff_area``: the fewest pixels of a segment of stuff.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    confidence: float = Field(default=0.2, ge=0, le=1)
    overlap: float = Field(default=0.4, ge=0, lt=1)
    stuff_area: int = Field(default=4096, ge=0)


def merge(
    regions: Iterable[Region],
    labels: Tensor,
    scores: Tensor,
    semantic: Tensor,
    things: int,
    recipe: MergeRecipe,
) -> PanopticSegmentation:
    """Instances by descending score, each without what better ones cover; then stuff, where no instance is.

    An instance is left out where its score is below ``confidence``, where more than a share of ``overlap`` of it is
    covered, or where it has no pixel. Of stuff a segment is what the semantic map has of a class outside of instances,
    left out where it has fewer pixels than ``stuff_area``. All else is void.

    Args:
        regions: the pixels of the D instances.
        labels: (D,) int64 of things.
        scores: (D,) by descending score.
        semantic: (H, W) int64 of classes, ``THINGS`` or one of stuff; see :mod:`nasperc.models.panoptic.segmentation`.
        things: their number.
        recipe: the three limits.
    """
    places = torch.full_like(semantic, VOID)
    kept: list[int] = []
    for index, (region, score) in enumerate(zip(regions, scores.tolist(), strict=True)):
        if score < recipe.confidence:
            break
        height, width = region.pixels.shape
        window = places[region.top : region.top + height, region.left : region.left + width]
        free = region.pixels & (window == VOID)
        area, left = int(region.pixels.sum()), int(free.sum())
        if left == 0 or area - left > recipe.overlap * area:
            continue
        kept.append(index)
        window[free] = len(kept)
    outside = places == VOID
    pixels = torch.bincount(semantic[outside])
    of_stuff = (pixels >= max(recipe.stuff_area, 1)).nonzero().flatten()
    of_stuff = of_stuff[of_stuff != THINGS]
    place_of = torch.full((len(pixels) + 1,), VOID, device=semantic.device)
    place_of[of_stuff] = torch.arange(len(of_stuff), device=semantic.device) + len(kept) + 1
    # Where there are instances the semantic map may have classes that are nowhere else.
    places = torch.where(outside, place_of[semantic.clamp(max=len(pixels))], places)
    return PanopticSegmentation(
        places,
        torch.cat((labels[kept], of_stuff - THINGS - 1 + things)),
        scores=torch.cat((scores[kept], scores.new_ones(len(of_stuff)))),
    )


def merge_instances(
    found: Instances, semantic: Tensor, things: int, recipe: MergeRecipe
) -> PanopticSegmentation:
    """As :func:`merge`, of detections of an image.

    Args:
        found: by descending score, with ``labels``, ``scores`` and ``masks`` (D, R, R), boxes in pixels of the map.
        semantic, things, recipe: see there.
    """
    assert found.scores is not None
    sure = found[found.scores >= recipe.confidence]
    assert sure.scores is not None
    assert sure.labels is not None
    assert isinstance(sure.masks, Tensor)
    regions = paste_regions(sure.masks, sure.mask_boxes, (semantic.shape[0], semantic.shape[1]))
    return merge(regions, sure.labels, sure.scores, semantic, things, recipe)
