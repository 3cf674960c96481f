"""The labels of a folder of frames: label maps, a strip and an animation to look at, and a JSON file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from nasperc.data.class_colours import class_colours
from nasperc.data.image import read_image
from nasperc.data.image_rules import ImageRules
from nasperc.data.label_map import write_label_map
from nasperc.data.video import check_frame_size, list_frames
from nasperc.errors import InputError
from nasperc.tasks.detection.predict import UPRIGHT, upright_rules
from nasperc.tasks.video.draw_labels import side_by_side, write_animation, write_strip
from nasperc.tasks.video.evaluate import Segmenting
from nasperc.training.device import to_device
from nasperc.training.segment import FrameByFrame
from nasperc.whole_files import write_whole, writing_whole

RESULTS, LABELS, STRIP, ANIMATION = "frames.json", "labels", "strip.png", "video.webp"
IN_STRIP = 6
# 200 frames of 960x360 take 200 MB until they are written.
MOST_ANIMATED = 200


@dataclass(frozen=True)
class VideoPredictions:
    """``labels``: the label map of each frame, in the order of the video; ``unreadable``: one error each.

    ``runs``: videos in the folder, each of which starts anew; ``pictures``: the strip and the animation.
    """

    json: Path
    runs: int
    labels: dict[Path, Path] = field(default_factory=dict)
    pictures: list[Path] = field(default_factory=list)
    unreadable: list[InputError] = field(default_factory=list)


def predict_video(
    trained: Segmenting,
    checkpoint: Path,
    folder: Path,
    out: Path,
    on_frame: Callable[[int, int], None] | None = None,
) -> VideoPredictions:
    """Segment the frames of a folder in their order and write what was found into ``out``.

    ``labels/NAME.png`` has a frame's labels as palette indices, in its own size, upright as an EXIF orientation says.
    Frames of one name but for the number are one video (``runs_of``). One that cannot be read, or has another size than
    those before it, is reported in the result; the next goes on from the state of the last good one.

    Args:
        trained: the network.
        checkpoint: that it came from, for the JSON file.
        folder: of the frames (.jpg, .jpeg, .png, .webp).
        out: folder, made if it is missing.
        on_frame: called with the frames done and their number.

    Raises:
        InputError: the folder is missing or has no image.
    """
    runs = list_frames(folder)
    to_device(trained.model)
    (out / LABELS).mkdir(parents=True, exist_ok=True)
    result = VideoPredictions(out / RESULTS, len(runs))
    colours = class_colours(trained.classes)
    frames = FrameByFrame(trained.model, trained.normalisation)
    rules = upright_rules(trained.images)
    total = sum(map(len, runs))
    in_strip = {round(k) for k in np.linspace(0, total - 1, min(IN_STRIP, total))}
    strip: list[Image.Image] = []
    animation: list[Image.Image] = []
    done = 0
    for run in runs:
        frames.restart()
        size: tuple[int, int] | None = None
        for file in run:
            done += 1
            try:
                image = _read(file, size, rules)
            except InputError as error:
                result.unreadable.append(error)
                continue
            size = (image.shape[-2], image.shape[-1])
            labels = frames.labels(image).numpy()
            result.labels[file] = out / LABELS / f"{file.stem}.png"
            with writing_whole(result.labels[file]) as part:
                write_label_map(part, labels, colours)
            if done - 1 in in_strip or len(animation) < MOST_ANIMATED:
                pair = side_by_side(image.permute(1, 2, 0).numpy(), labels, colours)
                strip += [pair] if done - 1 in in_strip else []
                animation += [pair] if len(animation) < MOST_ANIMATED else []
            if on_frame is not None:
                on_frame(done, total)
    if strip:
        with writing_whole(out / STRIP) as part:
            write_strip(part, strip, trained.classes, colours)
        result.pictures.append(out / STRIP)
    if animation:
        with writing_whole(out / ANIMATION) as part:
            write_animation(part, animation)
        result.pictures.append(out / ANIMATION)
    _write_json(result, trained, checkpoint, colours)
    return result


def _read(file: Path, size: tuple[int, int] | None, rules: ImageRules) -> Tensor:
    """The frame; ``size`` (H, W): of those before it, if there are any."""
    image = read_image(file, rules=rules)
    if size is not None:
        check_frame_size((image.shape[-2], image.shape[-1]), size, file)
    return image


def _write_json(result: VideoPredictions, trained: Segmenting, checkpoint: Path, colours: np.ndarray) -> None:
    content = {
        "checkpoint": str(checkpoint),
        "classes": dict(zip(trained.classes, colours.tolist(), strict=True)),
        "exif": UPRIGHT,
        "frames": [
            {"file": str(file), "labels": f"{LABELS}/{path.name}"} for file, path in result.labels.items()
        ],
        "unreadable": [str(error) for error in result.unreadable],
    }
    write_whole(result.json, json.dumps(content, indent=1) + "\n")
