"""Input normalisations. One belongs to each set of backbone weights and travels with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from nasperc.errors import InputError


@dataclass(frozen=True)
class Normalisation:
    """``(x - mean) / std`` by channel, with x in 0..255; ``mean`` and ``std`` are in ``channel_order``."""

    name: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channel_order: Literal["rgb", "bgr"] = "rgb"

    @property
    def mean_colour(self) -> tuple[int, int, int]:
        """The RGB colour in 0..255 that is mapped to 0, rounded: what images are padded with before."""
        red, green, blue = self.mean if self.channel_order == "rgb" else self.mean[::-1]
        return round(red), round(green), round(blue)

    def apply(self, image: Tensor) -> Tensor:
        """Normalise an RGB image or batch (..., 3, H, W), uint8 or float in 0..255; returns float32."""
        image = image.to(torch.float32)
        if self.channel_order == "bgr":
            image = image.flip(-3)
        mean = torch.tensor(self.mean, device=image.device).view(3, 1, 1)
        scale = torch.tensor(self.std, device=image.device).view(3, 1, 1)
        return (image - mean) / scale


NORMALISATIONS: dict[str, Normalisation] = {
    each.name: each
    for each in (
        # torchvision's (0.485, 0.456, 0.406) / (0.229, 0.224, 0.225) on the 0..255 scale.
        Normalisation("imagenet", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
        # TensorFlow's x / 127.5 - 1.
        Normalisation("tf", (127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
        # detectron2's for the MSRA ResNets: BGR, mean only.
        Normalisation("caffe", (103.53, 116.28, 123.675), (1.0, 1.0, 1.0), "bgr"),
    )
}


def get_normalisation(name: str) -> Normalisation:
    """The normalisation of that name.

    Raises:
        InputError: there is none.
    """
    if name not in NORMALISATIONS:
        raise InputError(
            f"a normalisation must be one of {', '.join(NORMALISATIONS)}",
            value=repr(name),
            where="backbone.normalisation",
            repair="Use the one that the weights were trained with.",
        )
    return NORMALISATIONS[name]
