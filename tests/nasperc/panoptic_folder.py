"""A small panoptic data set in COCO's layout, written file by file, and how tests edit it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZE = (20, 30)
# id: (x1, y1, x2, y2). 70000 = 112 + 256 * 17 + 65536: all three channels count.
SEGMENTS = {5: (0, 0, 30, 8), 300: (2, 10, 12, 18), 70_000: (15, 9, 25, 19)}
CATEGORIES = [
    {"id": 1, "name": "person", "isthing": 1, "supercategory": "person"},
    {"id": 17, "name": "cat", "isthing": 1, "supercategory": "animal"},
    {"id": 187, "name": "sky", "isthing": 0, "supercategory": "sky"},
]


def write_map(file: Path, segments: dict[int, tuple[int, int, int, int]]) -> np.ndarray:
    ids = np.zeros(SIZE, np.int64)
    for number, (x1, y1, x2, y2) in segments.items():
        ids[y1:y2, x1:x2] = number
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.stack([ids % 256, ids // 256 % 256, ids // 65_536], axis=-1).astype(np.uint8)).save(
        file
    )
    return ids


def segment(number: int, category: int, **fields: Any) -> dict[str, Any]:
    x1, y1, x2, y2 = SEGMENTS[number]
    box = [x1, y1, x2 - x1, y2 - y1]
    return {
        "id": number,
        "category_id": category,
        "bbox": box,
        "area": box[2] * box[3],
        "iscrowd": 0,
        **fields,
    }


def write_panoptic(root: Path) -> Path:
    """Image 2 has a sky, a person and a crowd of cats; image 7 is not annotated."""
    content = {
        "images": [{"id": k, "file_name": f"{k}.jpg", "height": 20, "width": 30} for k in (7, 2)],
        "categories": CATEGORIES,
        "annotations": [
            {
                "image_id": 2,
                "file_name": "2.png",
                "segments_info": [segment(5, 187), segment(300, 1, area=61), segment(70_000, 17, iscrowd=1)],
            }
        ],
    }
    write_map(root / "annotations" / "panoptic_train2017" / "2.png", SEGMENTS)
    (root / "train2017").mkdir()
    for k in (7, 2):
        Image.new("RGB", SIZE[::-1]).save(root / "train2017" / f"{k}.jpg")
    (root / "annotations" / "panoptic_train2017.json").write_text(json.dumps(content))
    return root


def edit(root: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    file = root / "annotations" / "panoptic_train2017.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def segments_of(content: dict[str, Any]) -> list[dict[str, Any]]:
    segments: list[dict[str, Any]] = content["annotations"][0]["segments_info"]
    return segments
