"""Detections of single images: a JSON file, and each picture with its boxes."""

from __future__ import annotations

import colorsys
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from nasperc.data.image import read_header, read_image
from nasperc.data.image_rules import ImageRules
from nasperc.data.normalisation import Normalisation
from nasperc.data.sample import Meta, Sample
from nasperc.errors import InputError
from nasperc.models.detector import Detector, DetectorOutput
from nasperc.models.instances import Instances
from nasperc.ops.paste_masks import paste_to_rle
from nasperc.tasks.trained import OnProgress, Prediction, PredictOptions
from nasperc.training.detect import detect_resized
from nasperc.training.device import to_device
from nasperc.training.recipe import TrainingRecipe
from nasperc.whole_files import write_whole, writing_whole


class Predicting(Protocol):
    """What a trained network brings to be shown on single images."""

    @property
    def model(self) -> Detector: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def images(self) -> ImageRules: ...

    @property
    def training(self) -> TrainingRecipe: ...

    @property
    def normalisation(self) -> Normalisation: ...


RESULTS = "detections.json"
# Lowest score where none is named.
THRESHOLD = 0.3
# In the result files.
UPRIGHT = "applied: everything is in pixels of the upright picture"

Label = tuple[float, float, float, float]


class Seen(NamedTuple):
    """What a network, ``model``, made of one image.

    ``picture``: RGB, upright. ``output``: of the network, for this image alone; ``size`` (h, w): of the image in it,
    without padding. ``found``: what is drawn, best first, its boxes in pixels of that. ``classes``: names by label.
    """

    model: Detector
    picture: Image.Image
    output: DetectorOutput
    size: tuple[int, int]
    found: Instances
    classes: tuple[str, ...]


class View(NamedTuple):
    """Another picture of an image; ``name``: as it is typed."""

    name: str
    draw: Callable[[Seen], Image.Image]


# Draws objects, as they stand in the JSON file, into a picture; with the names of the classes.
Draw = Callable[[Image.Image, Sequence[dict[str, Any]], Sequence[str]], None]


@dataclass(frozen=True)
class Predictions:
    """``json``: the file written; ``pictures``, ``views``, ``objects``, ``orientations`` (EXIF's) by image;
    ``unreadable``: one error each."""

    json: Path
    pictures: dict[Path, Path]
    views: dict[Path, Path]
    objects: dict[Path, list[dict[str, Any]]]
    orientations: dict[Path, int]
    unreadable: list[InputError]


def show(
    detector: Predicting,
    checkpoint: Path,
    images: Sequence[Path],
    out: Path,
    options: PredictOptions,
    on_progress: OnProgress | None = None,
    draw: Draw | None = None,
    view: View | None = None,
) -> Prediction:
    """As :func:`predict_images`, in the words that ``nasperc predict`` prints."""
    threshold = THRESHOLD if options.threshold is None else options.threshold
    result = predict_images(detector, checkpoint, images, out, threshold, on_progress, draw, view)
    lines = [
        f"{image}: {len(result.objects[image])} objects, drawn in {picture}"
        + (f", {view.name} in {result.views[image]}" if view is not None else "")
        for image, picture in result.pictures.items()
    ]
    others = "Those named above were skipped, the others are done."
    return Prediction([*lines, f"{result.json} written"], len(images), result.unreadable, others)


def predict_images(
    detector: Predicting,
    checkpoint: Path,
    images: Sequence[Path],
    out: Path,
    threshold: float = THRESHOLD,
    on_progress: OnProgress | None = None,
    draw: Draw | None = None,
    view: View | None = None,
) -> Predictions:
    """Detect objects in images and write ``detections.json`` and one picture an image, or two, into ``out``.

    Pictures are upright, as an EXIF orientation says, and boxes are in their pixels. An image that cannot be read is
    reported in the result; the others are still done.

    Args:
        detector: the network.
        checkpoint: that it came from, for the JSON file.
        images: files in any of the formats of data sets.
        out: folder, made if it is missing.
        threshold: lowest score written and drawn, in 0..1.
        on_progress: called with the images done and their number.
        draw: draws the objects into a picture; None: :func:`draw_objects`.
        view: of the second picture.

    Raises:
        InputError: ``threshold`` is outside 0..1.
    """
    if not 0 <= threshold <= 1:
        raise InputError(
            "a score threshold must lie in 0..1",
            value=threshold,
            where="--threshold",
            repair="For example 0.3.",
        )
    to_device(detector.model)
    out.mkdir(parents=True, exist_ok=True)
    result = Predictions(out / RESULTS, {}, {}, {}, {}, [])
    rules = upright_rules(detector.images)
    suffixes = ("",) if view is None else ("", f"-{view.name}")
    for number, (file, names) in enumerate(zip(images, picture_names(images, suffixes), strict=True)):
        if on_progress is not None:
            on_progress(number, len(images))
        try:
            pixels = read_image(file, rules=rules)
        except InputError as error:
            result.unreadable.append(error)
            continue
        result.orientations[file] = read_header(file).orientation
        sample = Sample(pixels, Meta(0, file, (pixels.shape[-2], pixels.shape[-1])))
        picture = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
        seen = _see(detector, sample, picture, threshold)
        result.objects[file] = _objects(seen, sample.meta.size)
        if view is not None:
            result.views[file] = out / names[1]
            _save(view.draw(seen), result.views[file])
        (draw or draw_objects)(picture, result.objects[file], detector.classes)
        result.pictures[file] = out / names[0]
        _save(picture, result.pictures[file])
    content = {
        "checkpoint": str(checkpoint),
        "threshold": threshold,
        "classes": list(detector.classes),
        "exif": UPRIGHT,
        "images": [
            {
                "file": str(file),
                "picture": result.pictures[file].name,
                **({} if view is None else {"views": {view.name: result.views[file].name}}),
                "exif_orientation": result.orientations[file],
                "objects": objects,
            }
            for file, objects in result.objects.items()
        ],
        "unreadable": [str(error) for error in result.unreadable],
    }
    write_whole(result.json, json.dumps(content, indent=1) + "\n")
    return result


def upright_rules(rules: ImageRules) -> ImageRules:
    """How images are read that have no annotation, which could be drawn on them as they are stored."""
    return ImageRules(range=rules.range, exif="apply")


def draw_objects(picture: Image.Image, objects: Sequence[dict[str, Any]], classes: Sequence[str]) -> None:
    """Draw boxes, then labels with class and score, best first where they compete for room.

    Line and font follow the picture's size.
    """
    draw = ImageDraw.Draw(picture)
    line = max(2, round(min(picture.size) / 240))
    font = label_font(picture)
    best_first = sorted(objects, key=lambda each: -float(each["score"]))
    colours = [class_colour(classes.index(each["class"]), len(classes)) for each in best_first]
    for each, colour in reversed(list(zip(best_first, colours, strict=True))):
        x1, y1, x2, y2 = each["box"]
        draw.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=colour, width=line)
    taken: list[Label] = []
    for each, colour in zip(best_first, colours, strict=True):
        text = f"{each['class']} {each['score']:.2f}"
        left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
        label = _place(each["box"], (right - left + 4, bottom - top + 4), picture.size, taken)
        taken.append(label)
        draw.rectangle(label, fill=colour)
        draw.text((label[0] + 2 - left, label[1] + 2 - top), text, fill="black", font=font)


def label_font(picture: Image.Image) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Of names, in a size that follows the picture's."""
    return ImageFont.load_default(size=max(11, round(min(picture.size) / 40)))


def _place(
    box: Sequence[float], size: tuple[float, float], picture: tuple[int, int], taken: Sequence[Label]
) -> Label:
    """Where a label of ``size`` (width, height) hides no earlier one: above its box, below it, or inside."""
    width, height = size
    x1, y1, x2, y2 = box
    corners = [(x1, y1 - height), (x2 - width, y1 - height), (x1, y2), (x1, y1), (x1, y2 - height)]
    places: list[Label] = []
    for x, y in corners:
        x = min(max(0.0, x), max(0.0, picture[0] - 1 - width))
        y = min(max(0.0, y), max(0.0, picture[1] - 1 - height))
        places.append((x, y, x + width, y + height))
    return next(
        (place for place in places if not any(labels_overlap(place, other) for other in taken)), places[0]
    )


def labels_overlap(a: Label, b: Label) -> bool:
    """Whether one hides a part of the other."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _see(detector: Predicting, sample: Sample, picture: Image.Image, threshold: float) -> Seen:
    training = detector.training
    output, (found,), (size,) = detect_resized(
        detector.model, [sample], detector.normalisation, training.test_short_side, training.max_long_side
    )
    assert found.scores is not None
    return Seen(detector.model, picture, output, size, found[found.scores >= threshold], detector.classes)


def _objects(seen: Seen, size: tuple[int, int]) -> list[dict[str, Any]]:
    """As they stand in the JSON file, in pixels of the picture, whose (h, w) is ``size``."""
    found = seen.found.rescale(seen.size, size)
    assert found.scores is not None
    assert found.labels is not None
    objects: list[dict[str, Any]] = [
        {"class": seen.classes[label], "score": round(score, 4), "box": [round(x, 2) for x in box]}
        for box, score, label in zip(
            found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
        )
    ]
    if isinstance(found.masks, Tensor):
        for each, run_lengths in zip(objects, paste_to_rle(found.masks, found.mask_boxes, size), strict=True):
            each["segmentation"] = run_lengths
    return objects


def _save(picture: Image.Image, file: Path) -> None:
    with writing_whole(file) as part:
        picture.save(part)


def picture_names(images: Sequence[Path], suffixes: Sequence[str] = ("",)) -> list[list[str]]:
    """PNG names of each image, one for each of ``suffixes``; where one is taken, all are numbered."""
    found: list[list[str]] = []
    taken: set[str] = set()
    for file in images:
        stem, number = file.stem, 2
        while taken & {f"{stem}{suffix}.png" for suffix in suffixes}:
            stem, number = f"{file.stem}-{number}", number + 1
        found.append([f"{stem}{suffix}.png" for suffix in suffixes])
        taken.update(found[-1])
    return found


def class_colour(label: int, classes: int) -> tuple[int, int, int]:
    """Bright colours, far apart on the wheel, on which black text can be read."""
    red, green, blue = colorsys.hls_to_rgb(label / classes, 0.65, 0.9)
    return round(red * 255), round(green * 255), round(blue * 255)
