"""A seeded synthetic panoptic data set, written to disk in COCO's panoptic layout: the shapes are things, and the
ground that they lie on is stuff."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from nasperc.data.panoptic_file import segment_box
from nasperc.data.panoptic_results import category_entries
from nasperc.data.segment_map import LARGEST_ID, write_segments
from nasperc.data.synthetic import DEFAULT_IMAGES, OBJECTS, check_images, save_image
from nasperc.data.synthetic_scene import SHAPES, Scene, draw_scene, take_turns
from nasperc.data.synthetic_stuff import STUFF, draw_stuff
from nasperc.data.written_once import write_once

_VERSION = 1
_REGIONS = (1, 3)
# Odd, so that ids differ, and of the golden ratio, so that all three channels count and colours can be told apart.
_ID_STEP = 0x9E3779


def write_synthetic_panoptic(
    folder: Path,
    *,
    images: Mapping[str, int] = DEFAULT_IMAGES,
    size: tuple[int, int] = (256, 256),
    seed: int = 0,
) -> Path:
    """Write the data set to ``folder``; see :func:`nasperc.data.synthetic.write_synthetic`.

    Things are the visible parts of shapes, all classes of ``SHAPES`` and of ``STUFF`` take turns; what a small train
    split never shows is left out of all splits. A pixel's width along the borders of regions belongs to no segment.

    Args:
        folder: to be made.
        images: number of images by split.
        size: (H, W) of every image in pixels, at least 32.
        seed: of all random numbers.

    Raises:
        InputError: ``folder`` holds something else, or an argument is impossible.
    """
    check_images(images, size)
    recipe = {
        "version": _VERSION,
        "layout": "coco_panoptic",
        "images": dict(images),
        "size": list(size),
        "seed": seed,
    }
    return write_once(folder, recipe, lambda work: _write(work, recipe))


def _write(work: Path, recipe: dict[str, Any]) -> None:
    size: tuple[int, int] = tuple(recipe["size"])
    things, stuff = list(SHAPES), list(STUFF)
    number = 0
    # train first: it decides which classes there are.
    for split in sorted(recipe["images"], key=lambda name: (name != "train", name)):
        maps = work / "annotations" / f"panoptic_{split}"
        for each in (work / split, maps):
            each.mkdir(parents=True)
        listed: list[dict[str, Any]] = []
        scenes = _scenes(split, recipe["images"][split], size, things, stuff, recipe["seed"])
        for scene, segments in scenes:
            number += 1
            save_image(scene, [work / split / f"{number:06d}.jpg"])
            listed.append(_write_map(maps / f"{number:06d}.png", segments, size, number))
        if split == "train":
            seen = {each["name"] for entry in listed for each in entry["segments_info"]}
            things, stuff = ([name for name in names if name in seen] for names in (things, stuff))
        _write_file(work / "annotations" / f"panoptic_{split}.json", listed, size, things, stuff)


# Name and pixels (H, W).
_Segments = list[tuple[str, np.ndarray]]


def _scenes(
    split: str, count: int, size: tuple[int, int], things: list[str], stuff: list[str], seed: int
) -> Iterator[tuple[Scene, _Segments]]:
    key = zlib.crc32(split.encode())
    decks = [
        take_turns(names, np.random.default_rng([seed, key, k])) for k, names in enumerate((things, stuff))
    ]
    for index in range(count):
        rng = np.random.default_rng([seed, key, 2, index])
        wanted, regions = (int(rng.integers(low, high + 1)) for low, high in (OBJECTS, _REGIONS))
        objects, names = list(islice(decks[0], wanted)), list(dict.fromkeys(islice(decks[1], regions)))
        ground, region = draw_stuff(size, names, rng)
        scene = draw_scene(size, objects, rng, ground)
        free = ~scene.masks.any(axis=0)
        shown = [(name, (region == place) & free) for place, name in enumerate(names)]
        shown += list(zip(scene.classes, scene.masks, strict=True))
        yield scene, [(name, mask) for name, mask in shown if mask.any()]


def _write_map(file: Path, segments: _Segments, size: tuple[int, int], image_id: int) -> dict[str, Any]:
    """The map of an image, and its annotation, of which segments have the ``name`` of their category."""
    ids = np.zeros(size, np.int64)
    entries: list[dict[str, Any]] = []
    for place, (name, mask) in enumerate(segments, start=1):
        number = place * _ID_STEP & LARGEST_ID
        ids[mask] = number
        entries.append(
            {"id": number, "name": name, "area": int(mask.sum()), "bbox": segment_box(mask), "iscrowd": 0}
        )
    write_segments(file, ids)
    return {"image_id": image_id, "file_name": file.name, "segments_info": entries}


def _write_file(
    file: Path,
    listed: list[dict[str, Any]],
    size: tuple[int, int],
    things: Sequence[str],
    stuff: Sequence[str],
) -> None:
    names = (*things, *stuff)
    category = {name: place for place, name in enumerate(names, start=1)}
    annotations = [
        {
            **entry,
            "segments_info": [
                {"category_id": category[each["name"]], **{k: v for k, v in each.items() if k != "name"}}
                for each in entry["segments_info"]
            ],
        }
        for entry in listed
    ]
    images = [
        {
            "id": each["image_id"],
            "file_name": f"{each['image_id']:06d}.jpg",
            "height": size[0],
            "width": size[1],
        }
        for each in listed
    ]
    content = {
        "images": images,
        "categories": category_entries(names, len(things), list(category.values())),
        "annotations": annotations,
    }
    file.write_text(json.dumps(content) + "\n")
