"""The exported file of an instance segmenter: a detector's, and the masks of its detections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nasperc.data.normalisation import Normalisation
from nasperc.models.detector import DetectorOutput
from nasperc.models.fcos.decode_fixed import FixedDetections
from nasperc.models.fcos.model import FCOS
from nasperc.models.features import HeadOutput
from nasperc.models.instance_segmenter import InstanceSegmenter
from nasperc.ops.paste_masks import paste
from nasperc.tasks.detection.graphs import DetectorGraphs, FinalDetector


class FinalSegmenter(FinalDetector):
    """As of a detector, and ``masks`` (N, D, R, R) in 0..1 inside of the boxes, or pasted (N, D, H, W) bool.

    Where masks belong to the boxes before they were clipped, these are another output, ``mask_boxes`` (N, D, 4).

    Args:
        segmenter: the network.
        normalisation: the backbone's.
        pasted: into the images.
    """

    def __init__(self, segmenter: InstanceSegmenter, normalisation: Normalisation, *, pasted: bool) -> None:
        super().__init__(segmenter, normalisation)
        self.segmenter, self.pasted = segmenter, pasted

    def head(self, output: DetectorOutput) -> HeadOutput:
        detection: HeadOutput = output.head.detection
        return detection

    def further(
        self,
        output: DetectorOutput,
        found: FixedDetections,
        boxes: Tensor,
        used: Tensor,
        size: tuple[int, int],
    ) -> tuple[Tensor, ...]:
        count = found.scores.shape[1]
        image = torch.arange(found.scores.shape[0], device=boxes.device)[:, None].expand(-1, count)
        masks = self.segmenter.masks_at(
            output, found.boxes.flatten(0, 1), image.flatten(), found.locations.flatten()
        )
        whole = self.segmenter.paste_into == "pooled_box"
        into = found.boxes.where(used[..., None], 0.0) if whole else boxes
        if self.pasted:
            # Places that are not used have boxes without area, and those no pixels.
            return (paste(masks, into.flatten(0, 1), size).unflatten(0, (-1, count)),)
        masks = masks.unflatten(0, (-1, count)).where(used[..., None, None], 0.0)
        return (masks, into) if whole else (masks,)


class SegmenterGraphs(DetectorGraphs):
    """A segmenter as one graph, for any number of images of any size.

    Args:
        segmenter, normalisation, about: as of a detector.
        pasted: masks are pasted into the images.
    """

    def __init__(
        self,
        segmenter: InstanceSegmenter,
        normalisation: Normalisation,
        about: Mapping[str, Any] | None = None,
        *,
        pasted: bool = False,
    ) -> None:
        self.pasted = pasted
        super().__init__(segmenter, normalisation, about)

    def final(self, detector: FCOS, normalisation: Normalisation) -> FinalSegmenter:
        assert isinstance(detector, InstanceSegmenter)
        return FinalSegmenter(detector, normalisation, pasted=self.pasted)

    def outputs(self) -> dict[str, dict[str, Any]]:
        outputs = super().outputs()
        count = self.module.detector.preset.detections
        if self.pasted:
            outputs["masks"] = {"shape": ["batch", count, "height", "width"], "dtype": "bool"}
        else:
            segmenter = self.module.segmenter
            assert isinstance(segmenter, InstanceSegmenter)
            side, whole = segmenter.region, segmenter.paste_into == "pooled_box"
            outputs["masks"] = {
                "shape": ["batch", count, side, side],
                "range": [0, 1],
                "is": f"inside of {'mask_boxes' if whole else 'boxes'}: bilinear between the centres of its cells, 0 "
                "around them; a pixel whose centre has 0.5 or more belongs to the object",
            }
            if whole:
                outputs["mask_boxes"] = {
                    "shape": ["batch", count, 4],
                    "unit": "pixels, not clipped to the image",
                }
        return outputs
