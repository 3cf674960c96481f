"""A trained network for videos on a split: quality, by class and by frame position, and what a frame costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from nasperc.data.formats import open_video
from nasperc.data.image_rules import ImageRules
from nasperc.data.normalisation import Normalisation
from nasperc.data.recipe import AUTO
from nasperc.data.video import VideoDataset
from nasperc.errors import InputError
from nasperc.evaluation.miou import SegmentationEvaluation, SegmentationMetrics
from nasperc.evaluation.video_latency import VideoLatency, measure_video_latency
from nasperc.tasks.detection.evaluate import reported_split
from nasperc.training.device import to_device
from nasperc.training.segment import Network, segment_dataset

# The last frame of each group of positions; beyond, one group for every power of ten.
_GROUP_ENDS = (1, 2, 3, 10, 30, 100, 1000, 10_000)


class Segmenting(Protocol):
    """What a trained network for videos brings to be measured and shown; see :class:`nasperc.tasks.trained.Trained`."""

    @property
    def model(self) -> Network: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def normalisation(self) -> Normalisation: ...

    @property
    def images(self) -> ImageRules: ...


@dataclass(frozen=True)
class VideoReport:
    """``overall``: every annotated frame at every position. ``by_position``: by the frame's number in its sequence,
    counted from 1, such as "2" or "4-10". ``size``: (H, W) of the frames that latency was measured on."""

    classes: tuple[str, ...]
    overall: SegmentationMetrics
    by_position: dict[str, SegmentationMetrics]
    latency: VideoLatency
    parameters: int
    size: tuple[int, int]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: shares of 1, None where undefined; latency in ms."""
        first, following = self.latency
        return {
            **_means(self.overall),
            "classes": {
                name: {"iou": _defined(iou), "acc": _defined(acc), "pixels": pixels}
                for name, iou, acc, pixels in zip(
                    self.classes, self.overall.iou, self.overall.acc, self.overall.pixels, strict=True
                )
            },
            "positions": {name: _means(metrics) for name, metrics in self.by_position.items()},
            "ms_first_frame": first.median_s * 1e3,
            "ms_a_frame": following.median_s * 1e3,
            "latency": {"size": list(self.size), **following._asdict()},
            "parameters": self.parameters,
        }


def evaluate_video(
    trained: Segmenting,
    data: Path,
    *,
    split: str | None = None,
    format: str = AUTO,
    sequence_length: int | None = None,
    on_frame: Callable[[int, int], None] | None = None,
) -> tuple[VideoReport, VideoDataset]:
    """Measure a network on a split, its frames read as those of the training.

    Args:
        trained: the network.
        data: folder of a data set with its classes.
        split: its name; None: test, or val where there is no test.
        format: a key of ``VIDEO``, or "auto".
        sequence_length: as :func:`segment_dataset`.
        on_frame: called with the frames done and their number.

    Returns:
        What was measured, and the split.

    Raises:
        InputError: other classes; anything wrong with the data set; as :func:`segment_dataset`.
    """
    split = split or reported_split(data, format)
    dataset = open_video(data, split, format=format, rules=trained.images)
    if dataset.classes != trained.classes:
        raise InputError(
            f"the data set must have the classes of the checkpoint: {', '.join(trained.classes)}",
            value=", ".join(dataset.classes),
            where=data,
            repair="Name another data set; one in the CamVid layout names its classes in classes.txt.",
        )
    dataset.images.require()
    to_device(trained.model)
    evaluation = segment_dataset(
        trained.model, dataset, trained.normalisation, sequence_length=sequence_length, on_frame=on_frame
    )
    return report_on(trained.model, evaluation, dataset), dataset


def report_on(
    model: Network, evaluation: SegmentationEvaluation, dataset: VideoDataset, latency_runs: int = 10
) -> VideoReport:
    """What was counted of ``model`` on a split, and what a frame of that split costs."""
    size = dataset.frames[0].size
    groups = position_groups(evaluation.positions)
    return VideoReport(
        dataset.classes,
        evaluation.metrics(),
        {name: evaluation.metrics(*positions) for name, positions in groups.items()},
        measure_video_latency(model, size, runs=latency_runs),
        sum(parameter.numel() for parameter in model.parameters()),
        size,
    )


def position_groups(positions: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Frame positions (from 0) by name; the further from the first frame, the wider the group.

    ``{"1": (0,), "2": (1,), "3": (2,), "4-10": (3, ..., 9), ...}``, as far as there are any.
    """
    groups: dict[str, tuple[int, ...]] = {}
    start = 0
    for end in (*_GROUP_ENDS, max(positions, default=0) + 1):
        inside = tuple(position for position in positions if start <= position < end)
        if inside:
            groups[f"{inside[0] + 1}-{inside[-1] + 1}" if len(inside) > 1 else f"{inside[0] + 1}"] = inside
        start = end
    return groups


def _means(metrics: SegmentationMetrics) -> dict[str, float | None]:
    values = {name: value for name, value in asdict(metrics).items() if isinstance(value, float)}
    return {name: _defined(value) for name, value in values.items()}


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value
