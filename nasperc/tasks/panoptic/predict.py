"""Panoptic segmentations of single images: maps of segments and a JSON file as COCO has them, and pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from nasperc.data.image import read_header, read_image
from nasperc.data.panoptic import PanopticClasses
from nasperc.data.panoptic_results import category_entries, write_segmentation
from nasperc.data.sample import Meta, Sample
from nasperc.errors import InputError
from nasperc.models.panoptic.segmentation import PanopticSegmentation
from nasperc.models.panoptic.segmenter import PanopticSegmenter
from nasperc.tasks.detection.predict import UPRIGHT, Predicting, picture_names, upright_rules
from nasperc.tasks.panoptic.draw_segments import draw_panoptic
from nasperc.tasks.trained import OnProgress, Prediction
from nasperc.training.device import to_device
from nasperc.training.panoptic import segment
from nasperc.whole_files import write_whole, writing_whole

RESULTS, MAPS = "panoptic.json", "panoptic"


class PanopticPredicting(Predicting, Protocol):
    """What a panoptic network brings to be shown on single images."""

    @property
    def model(self) -> PanopticSegmenter: ...

    @property
    def panoptic(self) -> PanopticClasses: ...


def predict_panoptic(
    trained: PanopticPredicting,
    checkpoint: Path,
    images: Sequence[Path],
    out: Path,
    confidence: float | None = None,
    on_progress: OnProgress | None = None,
) -> Prediction:
    """Segment images and write into ``out`` a picture of each, ``panoptic.json``, and a map of segments of each in
    ``panoptic/``.

    The JSON file is one of COCO's panoptic format, with ids of categories that are the label + 1. Pictures and maps are
    upright, as an EXIF orientation says. An image that cannot be read is reported in the result; the others are still
    done.

    Args:
        trained: the network.
        checkpoint: that it came from, for the JSON file.
        images: files in any of the formats of data sets.
        out: folder, made if it is missing.
        confidence: the lowest score of an instance, in 0..1; None: the model's own.
        on_progress: called with the images done and their number.

    Raises:
        InputError: ``confidence`` is outside 0..1.
    """
    if confidence is not None and not 0 <= confidence <= 1:
        raise InputError(
            "a score threshold must lie in 0..1",
            value=confidence,
            where="--threshold",
            repair="For example 0.3.",
        )
    to_device(trained.model)
    (out / MAPS).mkdir(parents=True, exist_ok=True)
    names, things = trained.panoptic.names, len(trained.panoptic.things)
    category_ids = range(1, len(names) + 1)
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    unreadable: list[InputError] = []
    lines = []
    files = zip(images, picture_names(images), strict=True)
    for number, (file, (name,)) in enumerate(files, start=1):
        if on_progress is not None:
            on_progress(number - 1, len(images))
        try:
            pixels = read_image(file, rules=upright_rules(trained.images))
        except InputError as error:
            unreadable.append(error)
            continue
        size = (pixels.shape[-2], pixels.shape[-1])
        found = _found(trained, Sample(pixels, Meta(number, file, size)), confidence)
        with writing_whole(out / MAPS / name) as part:
            segments = write_segmentation(part, found, category_ids)
        picture = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
        draw_panoptic(picture, found, names, things)
        with writing_whole(out / name) as part:
            picture.save(part)
        orientation = read_header(file).orientation
        entries.append(
            {"id": number, "file_name": str(file), "height": size[0], "width": size[1], "picture": name}
            | {"exif_orientation": orientation}
        )
        annotations.append({"image_id": number, "file_name": name, "segments_info": segments})
        lines.append(f"{file}: {len(segments)} segments, drawn in {out / name}")
    content = {
        "checkpoint": str(checkpoint),
        "exif": UPRIGHT,
        "images": entries,
        "annotations": annotations,
        "categories": category_entries(names, things, category_ids),
        "unreadable": [str(error) for error in unreadable],
    }
    write_whole(out / RESULTS, json.dumps(content, indent=1) + "\n")
    others = "Those named above were skipped, the others are done."
    return Prediction([*lines, f"{out / RESULTS} written"], len(images), unreadable, others)


def _found(trained: PanopticPredicting, sample: Sample, confidence: float | None) -> PanopticSegmentation:
    training = trained.training
    sides = training.test_short_side, training.max_long_side
    (found,) = segment(trained.model, [sample], trained.normalisation, *sides, confidence)
    return found.cpu()
