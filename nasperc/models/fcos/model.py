"""FCOS (Tian et al. 2019; thesis 7.3.1): backbone -> neck -> head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nasperc.models.detector import Detector, DetectorOutput
from nasperc.models.fcos.decode import detect
from nasperc.models.fcos.losses import fcos_losses
from nasperc.models.fcos.preset import FCOSPreset
from nasperc.models.fcos.targets import fcos_targets
from nasperc.models.instances import Instances
from nasperc.models.reduction import Reduce, reduce_alone
from nasperc.models.targets import Crowd


class FCOS(Detector):
    """A one-stage detector without anchors; its head is an FCOS head on any towers.

    Instance segmenters are subclasses (:class:`nasperc.models.instance_segmenter.InstanceSegmenter`).
    """

    @property
    def preset(self) -> FCOSPreset:
        """The head's preset."""
        assert isinstance(self.head.preset, FCOSPreset)
        return self.head.preset

    @property
    def crowd(self) -> Crowd:
        return self.preset.crowd

    def targets(
        self, instances: Instances, level_sizes: Sequence[tuple[int, int]], size_scale: float = 1.0
    ) -> Any:
        """``FCOSTargets`` of one image; ``size_scale`` is a factor on the sizes of interest."""
        assert instances.labels is not None
        assert instances.crowd is not None
        preset = self.preset
        return fcos_targets(
            instances.boxes,
            instances.labels,
            instances.crowd,
            level_sizes,
            self.strides,
            preset.sizes_of_interest,
            preset.centre_sampling_radius,
            size_scale,
        )

    def losses(self, output: DetectorOutput, targets: Any, reduce: Reduce = reduce_alone) -> Any:
        """``FCOSLosses`` of a batch against ``FCOSTargets`` (N, P, ...); ``reduce`` as in :func:`fcos_normalisers`."""
        return fcos_losses(output.head, targets, self.preset, self.strides, reduce)

    def detect(self, output: DetectorOutput, image_sizes: Sequence[tuple[int, int]]) -> list[Instances]:
        return detect(output.head, self.strides, image_sizes, self.preset)
