"""A seeded synthetic data set, written to disk as VOC and COCO, so that it goes through the same readers."""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from nasperc.data.label_map import label_colours, write_label_map
from nasperc.data.synthetic_scene import SHAPES, Scene, draw_scene, take_turns
from nasperc.data.voc import MAPS
from nasperc.data.written_once import write_once
from nasperc.errors import InputError

_VERSION = 1
# At least and at most, in an image.
OBJECTS = (2, 7)
# Of the maps of objects: background, then each object.
_OBJECT_COLOURS = np.concatenate((np.zeros((1, 3), np.uint8), label_colours(OBJECTS[1])))
DEFAULT_IMAGES = {"train": 48, "val": 16, "test": 16}


def write_synthetic(
    folder: Path,
    *,
    images: Mapping[str, int] = DEFAULT_IMAGES,
    size: tuple[int, int] = (256, 256),
    classes: Sequence[str] = tuple(SHAPES),
    seed: int = 0,
    formats: Sequence[str] = ("voc", "coco"),
) -> Path:
    """Write the data set to ``folder/voc`` and ``folder/coco``, or, in one format, to ``folder`` itself.

    The same arguments give byte-identical annotations. Masks are the visible parts (in COCO run lengths, in VOC maps of
    objects), boxes go around them.
    Classes take turns; a train split so small that some never come up leaves them out of all splits, so that
    the classes of the train split are the data set's. Everything is written under a temporary name and
    renamed when whole; a folder that holds this very data set is left as it is.

    Args:
        folder: to be made.
        images: number of images by split.
        size: (H, W) of every image in pixels, at least 32.
        classes: names from ``SHAPES``.
        seed: of all random numbers.
        formats: "voc", "coco" or both.

    Raises:
        InputError: ``folder`` holds something else, or an argument is impossible.
    """
    for name in classes:
        if name not in SHAPES:
            _reject(f"a synthetic class must be one of {', '.join(SHAPES)}", name, "classes")
    if not classes or not set(formats) <= {"voc", "coco"} or not formats:
        _reject("a synthetic data set needs classes, and formats out of voc and coco", formats, "formats")
    check_images(images, size)
    recipe = {
        "version": _VERSION,
        "images": dict(images),
        "size": list(size),
        "classes": sorted(set(classes)),
        "seed": seed,
        "formats": sorted(set(formats)),
    }
    return write_once(folder, recipe, lambda work: _write(work, recipe))


def check_images(images: Mapping[str, int], size: tuple[int, int]) -> None:
    """Raises InputError unless a synthetic data set can have so many images by split, of a size (H, W)."""
    if min(size) < 32 or not images or min(images.values()) < 1:
        _reject("a synthetic data set needs a size >= 32 and images", f"{size}, {dict(images)}", "size")


def _reject(rule: str, value: object, where: str | Path) -> None:
    raise InputError(rule, value=value, where=where, repair="Choose another one.")


@dataclass(frozen=True)
class _Object:
    name: str
    box: tuple[int, int, int, int]
    run_lengths: dict[str, Any]
    area: int


def _write(work: Path, recipe: dict[str, Any]) -> None:
    formats: list[str] = recipe["formats"]
    roots = {name: work / name if len(formats) > 1 else work for name in formats}
    height, width = recipe["size"]
    classes: list[str] = recipe["classes"]
    number = 0
    # train first: it decides which classes there are.
    for split in sorted(recipe["images"], key=lambda name: (name != "train", name)):
        folders = [roots[name] / {"voc": "JPEGImages", "coco": split}[name] for name in formats]
        for each in folders:
            each.mkdir(parents=True, exist_ok=True)
        annotations: dict[int, list[_Object]] = {}
        for scene in _scenes(split, recipe["images"][split], (height, width), classes, recipe["seed"]):
            number += 1
            save_image(scene, [each / f"{number:06d}.jpg" for each in folders])
            annotations[number] = _objects(scene)
        if split == "train":
            seen = {each.name for objects in annotations.values() for each in objects}
            classes = [name for name in classes if name in seen]
        if "voc" in roots:
            _write_voc(roots["voc"], split, annotations, (height, width))
        if "coco" in roots:
            _write_coco(roots["coco"], split, annotations, (height, width), classes)


def _scenes(split: str, count: int, size: tuple[int, int], classes: list[str], seed: int) -> Iterator[Scene]:
    key = zlib.crc32(split.encode())
    deck = take_turns(classes, np.random.default_rng([seed, key]))
    for index in range(count):
        rng = np.random.default_rng([seed, key, index])
        wanted = int(rng.integers(OBJECTS[0], OBJECTS[1] + 1))
        yield draw_scene(size, list(islice(deck, wanted)), rng)


def _objects(scene: Scene) -> list[_Object]:
    objects = []
    for name, mask, box in zip(scene.classes, scene.masks, scene.boxes(), strict=True):
        run_lengths = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
        counts = {"size": list(mask.shape), "counts": run_lengths["counts"].decode("ascii")}
        objects.append(_Object(name, box, counts, int(mask.sum())))
    return objects


def save_image(scene: Scene, files: Sequence[Path]) -> None:
    """Write the picture of a scene, as JPEG, to each of ``files``."""
    buffer = io.BytesIO()
    Image.fromarray(scene.image).save(buffer, "JPEG", quality=92)
    for file in files:
        file.write_bytes(buffer.getvalue())


def _write_voc(
    root: Path, split: str, annotations: Mapping[int, list[_Object]], size: tuple[int, int]
) -> None:
    lists = ("ImageSets/Main", "ImageSets/Segmentation")
    for folder in ("Annotations", MAPS, *lists):
        (root / folder).mkdir(parents=True, exist_ok=True)
    stems = [f"{number:06d}" for number in annotations]
    for folder in lists:
        (root / folder / f"{split}.txt").write_text("\n".join(stems) + "\n")
    for stem, objects in zip(stems, annotations.values(), strict=True):
        lines = [
            "<annotation>",
            f"  <filename>{stem}.jpg</filename>",
            f"  <size><width>{size[1]}</width><height>{size[0]}</height><depth>3</depth></size>",
            "  <segmented>1</segmented>",
        ]
        for each in objects:
            x1, y1, x2, y2 = each.box
            # VOC counts pixels from 1 and includes the last one.
            corners = (("xmin", x1 + 1), ("ymin", y1 + 1), ("xmax", x2), ("ymax", y2))
            bndbox = "".join(f"<{key}>{value}</{key}>" for key, value in corners)
            lines.append(f"  <object><name>{each.name}</name><difficult>0</difficult>")
            lines.append(f"    <bndbox>{bndbox}</bndbox></object>")
        lines.append("</annotation>")
        (root / "Annotations" / f"{stem}.xml").write_text("\n".join(lines) + "\n")
        numbers = np.zeros(size, np.uint8)
        for number, each in enumerate(objects, start=1):
            numbers[coco_mask.decode(each.run_lengths).astype(bool)] = number
        write_label_map(root / MAPS / f"{stem}.png", numbers, _OBJECT_COLOURS)


def _write_coco(
    root: Path,
    split: str,
    annotations: Mapping[int, list[_Object]],
    size: tuple[int, int],
    classes: Sequence[str],
) -> None:
    (root / "annotations").mkdir(exist_ok=True)
    entries: list[dict[str, Any]] = []
    for number, objects in annotations.items():
        for each in objects:
            x1, y1, x2, y2 = each.box
            entries.append(
                {
                    "id": len(entries) + 1,
                    "image_id": number,
                    "category_id": classes.index(each.name) + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": each.area,
                    "iscrowd": 0,
                    "segmentation": each.run_lengths,
                }
            )
    content = {
        "images": [
            {"id": n, "file_name": f"{n:06d}.jpg", "height": size[0], "width": size[1]} for n in annotations
        ],
        "categories": [{"id": k, "name": name} for k, name in enumerate(classes, start=1)],
        "annotations": entries,
    }
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content) + "\n")
