"""The exported file of a detector: raw images in, final detections out, by the rules of its preset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nasperc.data.normalisation import Normalisation
from nasperc.models.detector import DetectorOutput
from nasperc.models.fcos.decode_fixed import FixedDetections, detect_fixed
from nasperc.models.fcos.model import FCOS
from nasperc.models.fcos.preset import FCOSPreset
from nasperc.models.features import HeadOutput
from nasperc.ops.boxes import box_area, clip_boxes
from nasperc.tasks.detection.final_agreement import FinalAgreement, Found, compare_found
from nasperc.tasks.exported import Exported, Graph, Run
from nasperc.tasks.raw_images import RawImages, drawn_images, example_image, free_sides, image_values

# Of images that files are compared on, at each size.
_BATCHES = (1, 3)


class FinalDetector(nn.Module):
    """What the graph computes.

    ``forward(image)``: ``image`` (N, 3, H, W) float32 RGB in 0..255 -> ``boxes`` (N, D, 4) as (x1, y1, x2, y2) in
    pixels of the image, clipped to it, ``scores`` (N, D) in 0..1, descending, and ``classes`` (N, D) int64. A place
    that is not used is 0 all over.
    """

    def __init__(self, detector: FCOS, normalisation: Normalisation) -> None:
        super().__init__()
        self.detector = detector
        self.raw = RawImages(normalisation, detector.divisor)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        size = (image.shape[2], image.shape[3])
        output = self.detector(self.raw(image))
        found = detect_fixed(self.head(output), self.detector.strides, size, self.detector.preset)
        boxes = clip_boxes(found.boxes, size)
        used = (found.scores > 0) & (box_area(boxes) > 0)
        boxes = boxes.where(used[..., None], 0.0)
        kept = (boxes, found.scores.where(used, 0.0), found.labels.where(used, 0))
        return (*kept, *self.further(output, found, boxes, used, size))

    def head(self, output: DetectorOutput) -> HeadOutput:
        """What detections are made of."""
        head: HeadOutput = output.head
        return head

    def further(
        self,
        output: DetectorOutput,
        found: FixedDetections,
        boxes: Tensor,
        used: Tensor,
        size: tuple[int, int],
    ) -> tuple[Tensor, ...]:
        """What other models say of their detections.

        Args:
            output: of the network.
            found: as the head predicts them.
            boxes: (N, D, 4), clipped.
            used: (N, D) bool.
            size: (H, W) of the images.
        """
        return ()


class DetectorGraphs(Exported):
    """A detector as one graph, for any number of images of any size.

    Args:
        detector: the network.
        normalisation: the backbone's, part of the graph.
        about: plain values that the file holds beside what it says of its tensors.
    """

    def __init__(
        self, detector: FCOS, normalisation: Normalisation, about: Mapping[str, Any] | None = None
    ) -> None:
        self.module = self.final(detector, normalisation).eval()
        self.about = about or {}

    def final(self, detector: FCOS, normalisation: Normalisation) -> FinalDetector:
        """The module."""
        return FinalDetector(detector, normalisation)

    def outputs(self) -> dict[str, dict[str, Any]]:
        """What the file says of each, in the order of the module's."""
        count = self.module.detector.preset.detections
        return {
            "boxes": {
                "shape": ["batch", count, 4],
                "box": ["x1", "y1", "x2", "y2"],
                "unit": "pixels of the input image, clipped to it",
            },
            "scores": {
                "shape": ["batch", count],
                "range": [0, 1],
                "order": "descending; 0: the place is not used",
            },
            "classes": {"shape": ["batch", count], "is": "index into classes"},
        }

    def graphs(self, smallest: int) -> tuple[Graph, ...]:
        """See :meth:`Exported.graphs`."""
        values = {"input": {"image": image_values(None, smallest)}, **_rules(self.module.detector.preset)}
        free = {"image": free_sides(smallest)}
        return (Graph(None, self.module, {"image": example_image()}, self.outputs(), free, values),)

    def compare(
        self,
        graphs: Sequence[Graph],
        runs: Sequence[Run],
        paths: Sequence[Path],
        sizes: Sequence[tuple[int, int]],
    ) -> FinalAgreement:
        """See :meth:`Exported.compare`: of drawn scenes, one and three at a time."""
        ((run,), (path,)) = runs, paths
        pairs = []
        for seed, (size, count) in enumerate((size, count) for size in sizes for count in _BATCHES):
            images = drawn_images(count, size, seed)
            with torch.no_grad():
                expected, found = Found(*self.module(images)), Found(*run(images))
            pairs.append(compare_found(expected, found, size))
        return FinalAgreement.of(path, sizes, pairs)


def _rules(preset: FCOSPreset) -> dict[str, Any]:
    """By which detections were chosen, for a stranger to understand them; nothing is left to be done."""
    product = "class score * centerness"
    return {
        "score": f"sqrt({product})" if preset.sqrt_score else product,
        "suppression": {
            "tested": "class score" if preset.threshold_on == "class" else product,
            "above": preset.score_threshold,
            "candidates_of_a_level": preset.pre_nms_top,
            "iou": preset.nms_iou,
            "within_classes": True,
            "boxes_clipped_before": preset.clip_before_nms,
            "detections": preset.detections,
        },
    }
