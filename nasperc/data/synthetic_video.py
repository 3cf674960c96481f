"""A seeded synthetic video data set, written to disk in the CamVid layout, so that it goes through its reader."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nasperc.data.label_map import write_label_map
from nasperc.data.synthetic_clip import BACKGROUND, draw_clip
from nasperc.data.synthetic_scene import SHAPES, take_turns
from nasperc.data.written_once import write_once
from nasperc.errors import InputError

_VERSION = 1
_OBJECTS = (3, 6)
DEFAULT_VIDEOS = {"train": 8, "val": 2, "test": 2}


def write_synthetic_video(
    folder: Path,
    *,
    videos: Mapping[str, int] = DEFAULT_VIDEOS,
    frames: int = 12,
    size: tuple[int, int] = (128, 160),
    classes: Sequence[str] = tuple(SHAPES),
    seed: int = 0,
) -> Path:
    """Write videos of moving, turning, overlapping shapes before a panning camera; every frame is annotated.

    The same arguments give the same pixels. Label 0 is the background, then the classes in their order; a moving
    bar of no class is void. Each video is one run of frames. A folder that holds this very data set is left as it
    is.

    Args:
        folder: to be made.
        videos: number of videos by split.
        frames: of each video, at least 2.
        size: (H, W) of every frame in pixels, at least 32.
        classes: names from ``SHAPES``; they take turns.
        seed: of all random numbers.

    Raises:
        InputError: ``folder`` holds something else, or an argument is impossible.
    """
    for name in classes:
        if name not in SHAPES:
            _reject(f"a synthetic class must be one of {', '.join(SHAPES)}", name, "classes")
    if not classes or len(set(classes)) < len(classes):
        _reject("a synthetic data set needs classes, each named once", tuple(classes), "classes")
    if min(size) < 32 or frames < 2 or not videos or min(videos.values()) < 1:
        _reject(
            "synthetic videos need a size >= 32 and at least two frames",
            f"{size}, {frames} frames, {dict(videos)}",
            "size",
        )
    recipe = {
        "version": _VERSION,
        "videos": dict(videos),
        "frames": frames,
        "size": list(size),
        "classes": list(classes),
        "seed": seed,
    }
    return write_once(folder, recipe, lambda work: _write(work, recipe))


def _reject(rule: str, value: object, where: str) -> None:
    raise InputError(rule, value=value, where=where, repair="Choose another one.")


def _write(work: Path, recipe: dict[str, Any]) -> None:
    classes: list[str] = recipe["classes"]
    for split, count in recipe["videos"].items():
        key = zlib.crc32(split.encode())
        deck = take_turns(classes, np.random.default_rng([recipe["seed"], key]))
        images, annotations = work / split, work / f"{split}annot"
        images.mkdir()
        annotations.mkdir()
        stems = []
        for video in range(count):
            rng = np.random.default_rng([recipe["seed"], key, video])
            objects = list(islice(deck, int(rng.integers(_OBJECTS[0], _OBJECTS[1] + 1))))
            # Looked up with -2 (of no class) and -1 (background) as well.
            labels = np.array([1 + classes.index(name) for name in objects] + [len(classes) + 1, 0])
            height, width = recipe["size"]
            for time, (image, shown) in enumerate(draw_clip(recipe["frames"], (height, width), objects, rng)):
                stems.append(f"{split}{video:03d}_{time:05d}")
                Image.fromarray(image).save(images / f"{stems[-1]}.jpg", quality=92)
                write_label_map(annotations / f"{stems[-1]}.png", labels[shown])
        (work / f"{split}.txt").write_text("\n".join(stems) + "\n")
    (work / "classes.txt").write_text("\n".join((BACKGROUND, *classes)) + "\n")
