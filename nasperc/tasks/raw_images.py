"""How images go into every exported graph: raw, any number of any size; and what a caller is told of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasperc.data.normalisation import Normalisation
from nasperc.data.synthetic_scene import SHAPES, draw_scene
from nasperc.limits import LONGEST_SIDE

# Bound on the batch where a format wants one.
_MOST_IMAGES = 1024
# Large enough that no level has a side of 1, which the tracer would take for a constant; no multiples of a divisor.
_EXAMPLE = (2, 3, 250, 381)


class RawImages(nn.Module):
    """``forward(image (N, 3, H, W)) -> (N, 3, H', W')``: RGB in 0..255, normalised, then padded with zeros at the
    bottom and at the right, as batches are in training.

    Args:
        normalisation: the backbone's.
        divisor: H' and W' are multiples of it; 1: nothing is padded.
    """

    def __init__(self, normalisation: Normalisation, divisor: int) -> None:
        super().__init__()
        self.normalisation, self.divisor = normalisation, divisor

    def forward(self, image: Tensor) -> Tensor:
        # In this form, of all that mean the same, the tracer follows the sides through every level.
        below, beside = (
            (side + self.divisor - 1) // self.divisor * self.divisor - side for side in image.shape[-2:]
        )
        return F.pad(self.normalisation.apply(image), (0, beside, 0, below))


def free_sides(smallest: int) -> dict[int, Any]:
    """Of ``torch.export``: batch, height and width of an image are free.

    Args:
        smallest: side that the format takes.
    """
    height, width = (torch.export.Dim(name, min=smallest, max=LONGEST_SIDE) for name in ("height", "width"))
    return {0: torch.export.Dim("batch", min=1, max=_MOST_IMAGES), 2: height, 3: width}


def example_image(size: tuple[int, int] | None = None) -> Tensor:
    """To trace with; ``size``: (H, W), of a graph that takes no other."""
    return torch.rand(*_EXAMPLE[:2], *(size or _EXAMPLE[2:])) * 255


def drawn_images(count: int, size: tuple[int, int], seed: int) -> Tensor:
    """Drawn scenes (N, 3, H, W) float32: networks see something in them."""
    rng = np.random.default_rng(seed)
    scenes = [draw_scene(size, list(SHAPES), rng).image for _ in range(count)]
    return torch.from_numpy(np.stack(scenes)).permute(0, 3, 1, 2).float()


def image_values(size: tuple[int, int] | None, smallest: int) -> dict[str, Any]:
    """What a file says of its images, for JSON.

    Args:
        size: (H, W) of all images; None: any.
        smallest: side of free sizes.
    """
    return {
        "shape": ["batch", 3, *(size or ("height", "width"))],
        "layout": "NCHW",
        "dtype": "float32",
        "colours": "RGB",
        "range": [0, 255],
        "sides": list(size) if size else {"smallest": smallest, "largest": LONGEST_SIDE},
        # The graph does both.
        "normalise": False,
        "pad": False,
    }
