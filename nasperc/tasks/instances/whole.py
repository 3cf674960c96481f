"""All that an image costs an instance segmenter: a detector's forward pass, and masks of so many instances."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nasperc.models.blendmask.model import BlendMask, BlendMaskHeadOutput

# As many as are reported of an image at most.
INSTANCES = 100


class WholeSegmenter(nn.Module):
    """``forward(images (1, 3, H, W)) -> masks (D, R, R)``: suppression is left out, as for detectors, and the boxes are
    made up, since random weights find none.

    Args:
        model: the network.
        instances: D.
    """

    def __init__(self, model: BlendMask, instances: int = INSTANCES) -> None:
        super().__init__()
        self.model, self.instances = model, instances

    @property
    def divisor(self) -> int:
        """Of the model's images."""
        return self.model.divisor

    def forward(self, images: Tensor) -> Tensor:
        head: BlendMaskHeadOutput = self.model(images).head
        height, width = images.shape[-2:]
        # Of a quarter of the image's sides, spread over it.
        steps = torch.linspace(0, 0.75, self.instances, device=images.device)
        corner = torch.stack((steps * width, steps.flip(0) * height), dim=1)
        boxes = torch.cat((corner, corner + corner.new_tensor((width / 4, height / 4))), dim=1)
        image = torch.zeros(self.instances, dtype=torch.int64, device=images.device)
        top = None
        if head.top is not None:
            places = head.top[0].flatten(2)[0].t()
            top = places[torch.arange(self.instances, device=images.device) % len(places)]
        masks: Tensor = self.model.blender(head.bases, boxes, image, top)
        return masks
