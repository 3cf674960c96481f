"""COCO AP of a trained detector on a split."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nasperc.data.dataset import DetectionDataset
from nasperc.data.formats import has_split, open_dataset, splits
from nasperc.errors import InputError
from nasperc.evaluation.coco_ap import CocoMetrics, coco_ap
from nasperc.training.detect import detect_dataset
from nasperc.training.device import to_device

if TYPE_CHECKING:
    from nasperc.tasks.detection.trained import TrainedDetector

OnImage = Callable[[int, int], None]


def evaluate_on(
    detector: TrainedDetector,
    data: Path,
    *,
    split: str | None = None,
    format: str = "auto",
    strict: bool = False,
    on_image: OnImage | None = None,
) -> tuple[CocoMetrics, DetectionDataset]:
    """Metrics of a detector, and the split that they were measured on, its images read as those of the training.

    Args:
        detector: from its checkpoint.
        data: folder of a data set with its classes.
        split: its name; None: test, or val where there is no test.
        format: "voc", "coco" or "auto".
        strict: boxes that would be dropped or clipped are errors.
        on_image: called with the images done and their number.

    Raises:
        InputError: the data set is not readable, the split is missing, a class is unknown.
    """
    split = split or reported_split(data, format)
    dataset = open_dataset(
        data, split, format=format, classes=detector.classes, strict=strict, rules=detector.images
    )
    dataset.images.require()
    return evaluate_detector(detector, dataset, on_image), dataset


def reported_split(data: Path, format: str = "auto") -> str:
    """The split that is evaluated where none is named: test, or val where there is no test.

    Raises:
        InputError: there is neither, or ``data`` is no data set.
    """
    for name in ("test", "val"):
        if has_split(data, name, format):
            return name
    raise InputError(
        "a data set to evaluate on needs a split test or val",
        value=", ".join(splits(data, format)),
        where=data,
        repair="Name one with --split.",
    )


def evaluate_detector(
    detector: TrainedDetector, dataset: DetectionDataset, on_image: OnImage | None = None
) -> CocoMetrics:
    """Metrics on a split, at the image size of the detector's recipe.

    Raises:
        InputError: an image cannot be read.
    """
    to_device(detector.model)
    results = detect_dataset(
        detector.model,
        dataset,
        detector.normalisation,
        detector.training.test_short_side,
        detector.training.max_long_side,
        on_image=None if on_image is None else lambda done: on_image(done, len(dataset)),
    )
    return coco_ap(dataset.coco_ground_truth(), results)
