"""Panoptic results as the test server of COCO, and Cityscapes' own evaluation, take them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from nasperc.data.panoptic import PanopticDataset
from nasperc.data.panoptic_file import segment_box
from nasperc.data.segment_map import write_segments
from nasperc.errors import InputError
from nasperc.models.panoptic.segmentation import PanopticSegmentation
from nasperc.whole_files import writing_folder

# The place of an image in its data set, and what was found in it.
AddSegmentation: TypeAlias = Callable[[int, PanopticSegmentation], None]


@contextmanager
def writing_results(folder: Path, dataset: PanopticDataset) -> Iterator[AddSegmentation]:
    """Context in which results are added image by image; at its end ``folder`` stands there whole.

    In it are ``panoptic_<split>_nasperc_results.json``, with the data set's own ids of categories and images, and a
    folder of that name with a map of segments an image. The file can be read in place of the data set's own
    annotations, see :func:`nasperc.data.panoptic_formats.open_panoptic`.

    Args:
        folder: to be made; an empty one is replaced.
        dataset: the split.

    Raises:
        InputError: the data set has no id of its own for every class; something stands at ``folder``.
    """
    if dataset.category_ids is None:
        raise InputError(
            "results for a test server need the data set's own id of every class",
            value="not of all",
            where=f"{dataset.name} {dataset.split}",
            repair="Use a data set that lists all classes, each as a class of its own.",
        )
    category_ids = dataset.category_ids
    name = f"panoptic_{dataset.split}_nasperc_results"
    annotations: list[dict[str, Any]] = []
    with writing_folder(folder) as work:
        (work / name).mkdir()

        def add(index: int, found: PanopticSegmentation) -> None:
            key = dataset.records[index].key
            file = f"{key:012d}.png" if isinstance(key, int) else f"{key}.png"
            segments = write_segmentation(work / name / file, found, category_ids)
            annotations.append({"image_id": key, "file_name": file, "segments_info": segments})

        yield add
        content = {
            "images": [
                {"id": each.key, "file_name": each.file.name, "height": each.size[0], "width": each.size[1]}
                for each in dataset.records
            ],
            "annotations": annotations,
            "categories": category_entries(
                dataset.panoptic.names, len(dataset.panoptic.things), category_ids
            ),
        }
        (work / f"{name}.json").write_text(json.dumps(content) + "\n")


def write_segmentation(
    file: Path, found: PanopticSegmentation, category_ids: Sequence[int]
) -> list[dict[str, Any]]:
    """Write a map of segments, and give the entries of its ``segments_info``; a segment without a pixel has none.

    Args:
        file: to be written, a PNG.
        found: the segments; segment k has the id k + 1.
        category_ids: by label.
    """
    places = found.map.cpu().numpy()
    write_segments(file, places)
    scores = None if found.scores is None else found.scores.tolist()
    entries: list[dict[str, Any]] = []
    for index, (label, area) in enumerate(zip(found.labels.tolist(), found.areas().tolist(), strict=True)):
        if not area:
            continue
        entry = {
            "id": index + 1,
            "category_id": category_ids[label],
            "area": area,
            "bbox": segment_box(np.equal(places, index + 1)),
            "iscrowd": 0,
        }
        entries.append(entry if scores is None else {**entry, "score": round(scores[index], 4)})
    return entries


def category_entries(names: Sequence[str], things: int, category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """The list ``categories`` of a panoptic file; the first ``things`` of the names are things."""
    return [
        {"id": key, "name": name, "isthing": int(label < things)}
        for label, (name, key) in enumerate(zip(names, category_ids, strict=True))
    ]
