"""What an exported file computes, and how it is compared with torch right after it was written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nasperc.data.normalisation import Normalisation
from nasperc.errors import InputError
from nasperc.limits import LONGEST_SIDE
from nasperc.models.fcos.decode import decode
from nasperc.models.fcos.model import FCOS

# Large enough that no level has a side of 1, which the tracer would take for a constant.
EXAMPLE_SIZE = (256, 384)
OUTPUTS = ("boxes", "class_scores", "centerness")
# Sizes at which a file is compared with torch right after it was written, (H, W).
CHECK_SIZES = ((64, 96), (128, 128), (160, 96))
# Scores: absolute. Boxes: relative to the longer side of the image.
TOLERANCE = 1e-4


class ExportedDetector(nn.Module):
    """What the exported graph computes.

    ``forward(image)``: ``image`` ``(1, 3, H, W)`` float32 RGB in 0..255, H and W multiples of 32 ->
    ``boxes`` ``(1, P, 4)`` as (x1, y1, x2, y2) in pixels, ``class_scores`` ``(1, P, K)`` and ``centerness``
    ``(1, P)`` in 0..1. The final score of the field is sqrt(class score * centerness).
    """

    def __init__(self, detector: FCOS, normalisation: Normalisation) -> None:
        super().__init__()
        self.detector = detector
        self.normalisation = normalisation

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return decode(self.detector(self.normalisation.apply(image)).head, self.detector.strides)


def example(smallest: int) -> tuple[tuple[Tensor], dict[str, Any]]:
    """An image to trace with, and its free sizes: H and W, multiples of 32 from ``smallest`` to LONGEST_SIDE."""
    sides = (
        torch.export.Dim(name, min=smallest // 32, max=LONGEST_SIDE // 32) for name in ("rows", "columns")
    )
    height, width = (32 * side for side in sides)
    return (torch.rand(1, 3, *EXAMPLE_SIZE) * 255,), {"image": {2: height, 3: width}}


@dataclass(frozen=True)
class Agreement:
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


def compare(
    module: ExportedDetector,
    run: Callable[[Tensor], Sequence[Tensor]],
    path: Path,
    sizes: Sequence[tuple[int, int]],
) -> Agreement:
    """Compare ``run``, which gives the outputs of the file ``path``, with ``module`` on random images."""
    generator = torch.Generator().manual_seed(0)
    score_error = box_error = 0.0
    for height, width in sizes:
        image = torch.rand(1, 3, height, width, generator=generator) * 255
        with torch.no_grad():
            expected = module(image)
            boxes, scores, centerness = run(image)
        score_error = max(score_error, _largest(scores, expected[1]), _largest(centerness, expected[2]))
        box_error = max(box_error, _largest(boxes, expected[0]) / max(height, width))
    return Agreement(path, tuple(sizes), score_error, box_error)


def _largest(first: Tensor, second: Tensor) -> float:
    assert first.shape == second.shape, (first.shape, second.shape)
    return float((first - second).abs().max())
