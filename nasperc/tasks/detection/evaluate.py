"""What a trained network of detections finds on a split."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nasperc.data.dataset import ONE_CLASS, DetectionDataset
from nasperc.data.formats import has_split, open_dataset, splits
from nasperc.data.recipe import AUTO
from nasperc.errors import InputError
from nasperc.evaluation.coco_ap import coco_results
from nasperc.tasks.detection.predict import Predicting
from nasperc.tasks.trained import EvaluateOptions
from nasperc.training.detect import detect_dataset
from nasperc.training.device import to_device
from nasperc.whole_files import write_whole

OnImage = Callable[[int, int], None]


def found_on(
    trained: Predicting,
    data: Path,
    options: EvaluateOptions,
    on_image: OnImage | None = None,
    *,
    masks: bool = False,
) -> tuple[DetectionDataset, list[dict[str, Any]]]:
    """A split, its images read as those of the training, and what is found in it, in COCO's result format.

    Args:
        trained: from its checkpoint.
        data: folder of a data set with its classes.
        options: the split, its format, other annotations, and where results for a test server are written.
        on_image: called with the images done and their number.
        masks: the shapes of objects are read, too.

    Raises:
        InputError: the data set is not readable, the split is missing, a class is unknown.
    """
    split = options.split or reported_split(data, options.format)
    dataset = open_dataset(
        data,
        split,
        format=options.format,
        classes=trained.classes,
        strict=options.strict,
        rules=trained.images,
        masks=masks,
        one_class=trained.classes == ONE_CLASS,
        annotations=options.annotations,
    )
    dataset.images.require()
    if options.results is not None:
        # Before minutes are spent on it.
        coco_results([], dataset.category_ids, where=str(data))
    to_device(trained.model)
    found = detect_dataset(
        trained.model,
        dataset,
        trained.normalisation,
        trained.training.test_short_side,
        trained.training.max_long_side,
        on_image=None if on_image is None else lambda done: on_image(done, len(dataset)),
    )
    if options.results is not None:
        results = coco_results(found, dataset.category_ids, where=str(data))
        write_whole(options.results, json.dumps(results) + "\n")
    return dataset, found


def reported_split(data: Path, format: str = AUTO) -> str:
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
