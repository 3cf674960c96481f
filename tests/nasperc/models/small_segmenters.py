"""What the tests of single segmenters share: a backbone of few layers, and masks as an exported file has them."""

from __future__ import annotations

import torch
import torch.fx.experimental._config
from torch import Tensor, nn

from nasperc.models.features import FeatureSpec
from nasperc.models.instance_segmenter import InstanceSegmenter


class StridedConvolutions(nn.Module):
    """Tracing takes its time for each layer."""

    def __init__(self) -> None:
        super().__init__()
        self.out = tuple(FeatureSpec(f"C{level}", 4, 2**level) for level in range(1, 6))
        self.layers = nn.ModuleList(
            nn.Conv2d(3 if spec.name == "C1" else 4, 4, 3, stride=2, padding=1) for spec in self.out
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        features = []
        for layer in self.layers:
            x = layer(x)
            features.append(x)
        return features


class MasksOf(nn.Module):
    """``forward(images (1, 3, H, W), boxes, location) -> masks``, as a file of final detections has it."""

    def __init__(self, model: InstanceSegmenter) -> None:
        super().__init__()
        self.model = model

    def forward(self, given: Tensor, boxes: Tensor, location: Tensor) -> Tensor:
        return self.model.masks_at(self.model(given), boxes, torch.zeros_like(location), location)


def require_export_for_any_size(model: InstanceSegmenter, divisor: int = 32) -> None:
    """Exported once, the masks of three objects are those of the network at every size."""
    masks = MasksOf(model).eval()
    boxes = torch.tensor([[3.0, 5.0, 40.0, 60.0], [0.0, 0.0, 128.0, 128.0], [-5.0, -9.0, 30.0, 70.0]])
    location = torch.tensor([0, 7, 450])
    step = 128 // divisor
    rows, columns = (torch.export.Dim(name, min=step, max=32 * step) for name in ("rows", "columns"))
    any_side = torch.fx.experimental._config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]
    with torch.no_grad(), any_side:
        arguments = (torch.randn(1, 3, 256, 384), boxes, location)
        free = ({2: divisor * rows, 3: divisor * columns}, None, None)
        program = torch.export.export(masks, arguments, dynamic_shapes=free).module()
    for size in ((160, 160), (160, 288), (320, 224)):
        given = torch.randn(1, 3, *size)
        with torch.no_grad():
            torch.testing.assert_close(program(given, boxes, location), masks(given, boxes, location))
