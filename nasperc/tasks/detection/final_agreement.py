"""How far the detections of an exported file agree with torch's.

Rounding moves scores by a millionth. Two detections with almost the same score may change places then, and one at a
threshold may go: so detections are compared in pairs, and a few may be without a partner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import torch
from torch import Tensor

from nasperc.errors import InputError
from nasperc.tasks.exported import Agreement

# Scores: absolute. Boxes: relative to the longer side of the image.
TOLERANCE = 1e-4
# Share of the pixels of masks, cut at 0.5, that may differ.
MASK_TOLERANCE = 1e-4
# Share of the detections that may be without a partner.
_UNPAIRED = 0.01


class Found(NamedTuple):
    """Outputs of a graph: ``boxes`` (N, D, 4), ``scores`` (N, D), ``classes`` (N, D); ``masks`` (N, D, ...) in 0..1 or
    bool, None of a detector; ``mask_boxes`` (N, D, 4), where they are not the boxes."""

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    masks: Tensor | None = None
    mask_boxes: Tensor | None = None


class Compared(NamedTuple):
    """Of some images: detections of torch, those without a partner, largest differences of the others' scores and
    boxes, and how many pixels of their masks differ, of how many."""

    detections: int
    unpaired: int
    score_error: float
    box_error: float
    pixels: int
    of_pixels: int


def compare_found(expected: Found, found: Found, size: tuple[int, int]) -> Compared:
    """Pair what was found with what was expected.

    A partner is of the same image and class, with score and box within :data:`TOLERANCE`.

    Args:
        expected: torch's.
        found: the file's.
        size: (H, W) of the images.
    """
    count = paired = extra = pixels = of_pixels = 0
    score_error = box_error = 0.0
    for image in range(len(expected.scores)):
        wanted, given = ((each.scores[image] > 0).nonzero()[:, 0] for each in (expected, found))
        count, extra = count + len(wanted), extra + len(given)
        if not len(wanted) or not len(given):
            continue
        scores = (expected.scores[image, wanted, None] - found.scores[image, given]).abs()
        boxes = (expected.boxes[image, wanted, None] - found.boxes[image, given]).abs().amax(2) / max(size)
        alike = expected.classes[image, wanted, None] == found.classes[image, given]
        errors = torch.maximum(scores, boxes).masked_fill(~alike, torch.inf)
        for place, row in enumerate(errors):
            partner = int(row.argmin())
            if row[partner] > TOLERANCE:
                continue
            paired += 1
            score_error = max(score_error, float(scores[place, partner]))
            box_error = max(box_error, float(boxes[place, partner]))
            if expected.masks is not None and found.masks is not None:
                one, other = expected.masks[image, wanted[place]], found.masks[image, given[partner]]
                pixels += int(((one >= 0.5) != (other >= 0.5)).sum())
                of_pixels += one.numel()
    return Compared(count, max(count, extra) - paired, score_error, box_error, pixels, of_pixels)


@dataclass(frozen=True)
class FinalAgreement(Agreement):
    """:class:`Compared` over images of ``sizes`` (H, W)."""

    path: Path
    sizes: tuple[tuple[int, int], ...]
    compared: Compared

    @classmethod
    def of(cls, path: Path, sizes: Sequence[tuple[int, int]], parts: Sequence[Compared]) -> Self:
        """Of all ``parts`` together."""
        count, unpaired, scores, boxes, pixels, of_pixels = zip(*parts, strict=True)
        together = Compared(sum(count), sum(unpaired), max(scores), max(boxes), sum(pixels), sum(of_pixels))
        return cls(path, tuple(sizes), together)

    @property
    def mask_error(self) -> float:
        """Share of the pixels of masks that differ."""
        return self.compared.pixels / max(self.compared.of_pixels, 1)

    @property
    def agrees(self) -> bool:
        """Whether almost all detections have a partner, and the masks of pairs are the same."""
        count, unpaired = self.compared.detections, self.compared.unpaired
        # One in a few may go, but not the only one.
        few = unpaired <= _UNPAIRED * count or (unpaired == 1 and count > 1)
        return few and self.mask_error <= MASK_TOLERANCE

    def check(self) -> None:
        """Do nothing if it agrees.

        Raises:
            InputError: it does not.
        """
        if self.agrees:
            return
        compared = self.compared
        raise InputError(
            f"an exported detector must agree with torch within {TOLERANCE}",
            value=f"{compared.unpaired} of {compared.detections} detections differ by more, and "
            f"{self.mask_error:.1e} of the pixels of masks",
            where=self.path,
            repair="Nothing was written. Please report it with the checkpoint's architecture.",
        )

    def __str__(self) -> str:
        sizes = ", ".join(f"{height}x{width}" for height, width in self.sizes)
        compared = self.compared
        if not compared.detections:
            return (
                f"{self.path} written; nothing was found in the drawn scenes ({sizes}), by torch neither: the "
                "check has seen no detection"
            )
        masks = f", masks but for {self.mask_error:.1e} of their pixels" if compared.of_pixels else ""
        apart = f"; {compared.unpaired} beyond, at a threshold" if compared.unpaired else ""
        return (
            f"{self.path} {'agrees with torch' if self.agrees else 'DIFFERS from torch'} at {sizes}: "
            f"{compared.detections} detections, scores within {compared.score_error:.1e}, boxes within "
            f"{compared.box_error:.1e} of the image size{masks}{apart}"
        )
