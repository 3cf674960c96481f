"""The dense file of a detector: what it predicts at every location, for callers with rules of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nasperc.data.normalisation import Normalisation
from nasperc.errors import InputError
from nasperc.models.fcos.decode import decode
from nasperc.models.fcos.model import FCOS
from nasperc.tasks.exported import Agreement, Exported, Graph, Run
from nasperc.tasks.raw_images import RawImages, drawn_images, example_image, free_sides, image_values

# Scores: absolute. Boxes: relative to the longer side of the image.
TOLERANCE = 1e-4


class DenseDetector(nn.Module):
    """What the graph computes.

    ``forward(image)``: ``image`` (N, 3, H, W) float32 RGB in 0..255 -> ``boxes`` (N, P, 4) as (x1, y1, x2, y2) in
    pixels of the image, ``class_scores`` (N, P, K) and ``centerness`` (N, P) in 0..1, at the P locations of the padded
    image.
    The final score of the field is sqrt(class score * centerness).
    """

    def __init__(self, detector: FCOS, normalisation: Normalisation) -> None:
        super().__init__()
        self.detector = detector
        self.raw = RawImages(normalisation, detector.divisor)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return decode(self.detector(self.raw(image)).head, self.detector.strides)


class DenseGraphs(Exported):
    """The maps of a detector as one graph, for any number of images of any size; arguments as of
    :class:`nasperc.tasks.detection.graphs.DetectorGraphs`."""

    def __init__(
        self, detector: FCOS, normalisation: Normalisation, about: Mapping[str, Any] | None = None
    ) -> None:
        self.module = DenseDetector(detector, normalisation).eval()
        self.about = about or {}

    def graphs(self, smallest: int) -> tuple[Graph, ...]:
        """See :meth:`Exported.graphs`."""
        classes: int = self.module.detector.head.num_classes  # type: ignore[assignment]
        outputs = {
            "boxes": {
                "shape": ["batch", "locations", 4],
                "box": ["x1", "y1", "x2", "y2"],
                "unit": "pixels of the input image",
            },
            "class_scores": {"shape": ["batch", "locations", classes], "range": [0, 1]},
            "centerness": {"shape": ["batch", "locations"], "range": [0, 1]},
        }
        values = {
            "input": {"image": image_values(None, smallest)},
            "score": "sqrt(class_scores * centerness)",
        }
        free = {"image": free_sides(smallest)}
        return (Graph(None, self.module, {"image": example_image()}, outputs, free, values),)

    def compare(
        self,
        graphs: Sequence[Graph],
        runs: Sequence[Run],
        paths: Sequence[Path],
        sizes: Sequence[tuple[int, int]],
    ) -> DenseAgreement:
        """See :meth:`Exported.compare`: of drawn scenes, one and three at a time."""
        ((run,), (path,)) = runs, paths
        score_error = box_error = 0.0
        for seed, (size, count) in enumerate((size, count) for size in sizes for count in (1, 3)):
            images = drawn_images(count, size, seed)
            with torch.no_grad():
                expected = self.module(images)
                boxes, scores, centerness = run(images)
            score_error = max(score_error, _largest(scores, expected[1]), _largest(centerness, expected[2]))
            box_error = max(box_error, _largest(boxes, expected[0]) / max(size))
        return DenseAgreement(path, tuple(sizes), score_error, box_error)


@dataclass(frozen=True)
class DenseAgreement(Agreement):
    """Largest differences of a file's outputs to torch's over images of ``sizes`` (H, W)."""

    path: Path
    sizes: tuple[tuple[int, int], ...]
    score_error: float
    box_error: float

    @property
    def agrees(self) -> bool:
        """Whether scores and boxes are within :data:`TOLERANCE`."""
        return self.score_error <= TOLERANCE and self.box_error <= TOLERANCE

    def check(self) -> None:
        """Do nothing if it agrees.

        Raises:
            InputError: it does not.
        """
        if self.agrees:
            return
        raise InputError(
            f"an exported detector must agree with torch within {TOLERANCE}",
            value=f"scores off by {self.score_error:.1e}, boxes by {self.box_error:.1e} of the image size",
            where=self.path,
            repair="Nothing was written. Please report it with the checkpoint's architecture.",
        )

    def __str__(self) -> str:
        sizes = ", ".join(f"{height}x{width}" for height, width in self.sizes)
        verdict = "agrees with torch" if self.agrees else "DIFFERS from torch"
        return (
            f"{self.path} {verdict} at {sizes}: scores within {self.score_error:.1e}, "
            f"boxes within {self.box_error:.1e} of the image size"
        )


def _largest(first: Tensor, second: Tensor) -> float:
    assert first.shape == second.shape, (first.shape, second.shape)
    return float((first - second).abs().max())
