"""FCOS (Tian et al. 2019; thesis 7.3.1): backbone -> neck -> head."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from nasperc.errors import InputError
from nasperc.models.fcos_losses import FCOSLosses, Total, alone, fcos_losses
from nasperc.models.fcos_postprocess import Detections, detect
from nasperc.models.fcos_targets import FCOSTargets
from nasperc.models.features import FeatureSpec, HeadOutput
from nasperc.models.heads.preset import FCOSPreset

_DIVISOR = 32


class FCOS(nn.Module):
    """A one-stage detector of any backbone, neck and FCOS head that keep the contracts of ``features.py``."""

    def __init__(self, backbone: nn.Module, neck: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.head = head

    @property
    def levels(self) -> tuple[FeatureSpec, ...]:
        """What the neck puts out."""
        levels: tuple[FeatureSpec, ...] = self.neck.out  # type: ignore[assignment]
        return levels

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride of each level in input pixels."""
        return tuple(spec.stride for spec in self.levels)

    @property
    def preset(self) -> FCOSPreset:
        """The head's preset."""
        assert isinstance(self.head.preset, FCOSPreset)
        return self.head.preset

    def forward(self, images: Tensor) -> HeadOutput:
        """Head output of normalised ``images`` (N, 3, H, W).

        Raises:
            InputError: H or W is not a multiple of 32.
        """
        height, width = images.shape[-2:]
        if height % _DIVISOR or width % _DIVISOR:
            raise InputError(
                f"height and width of the images must be multiples of {_DIVISOR}",
                value=f"{height} x {width}",
                where="input of the detector",
                repair="Pad the images at the bottom and at the right.",
            )
        return self.forward_features(self.backbone(images))

    def forward_features(self, features: list[Tensor]) -> HeadOutput:
        """Head output of backbone features, e.g. cached ones."""
        output: HeadOutput = self.head(self.neck(features))
        return output

    def losses(self, output: HeadOutput, targets: FCOSTargets, total: Total = alone) -> FCOSLosses:
        """Losses of a batch against ``targets`` (N, P, ...); ``total`` as in :func:`fcos_losses`."""
        return fcos_losses(output, targets, self.preset, self.strides, total)

    def detect(self, output: HeadOutput, image_sizes: Sequence[tuple[int, int]]) -> list[Detections]:
        """Detections of each image in input pixels; ``image_sizes`` (h, w) without padding."""
        return detect(output, self.strides, image_sizes, self.preset)
