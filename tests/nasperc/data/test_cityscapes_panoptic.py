"""Cityscapes' panoptic files as cityscapesScripts writes them, on two tiny frames."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nasperc.data.cityscapes import TRAIN_IDS
from nasperc.data.cityscapes_panoptic import (
    CITYSCAPES_PANOPTIC,
    cityscapes_panoptic_splits,
    read_cityscapes_panoptic,
)
from nasperc.data.panoptic_formats import has_panoptic_split, open_panoptic, panoptic_split_names
from nasperc.data.segment_map import write_segments
from nasperc.errors import InputError

SIZE = (6, 8)
# The instance map of the first frame: road, a region of persons, two cars; the ego vehicle is void.
CROWD, CARS = 24, (26_000, 26_001)


def ids_of_instances() -> np.ndarray:
    ids = np.full(SIZE, 7)
    ids[0] = CROWD
    ids[2:4, 1:3], ids[2:4, 5:7] = CARS
    ids[5] = 1
    return ids


def write_split(root: Path, split: str, frames: list[str], *, train_ids: bool = False) -> Path:
    """What the data set's own script makes of such maps."""
    number = {id: place for place, id in enumerate(TRAIN_IDS)}
    categories = [
        {
            "id": number[id] if train_ids else id,
            "name": name,
            "color": [0, 0, 0],
            "supercategory": "object",
            "isthing": int(name in CITYSCAPES_PANOPTIC.things),
        }
        for id, name in TRAIN_IDS.items()
    ]
    base = f"cityscapes_panoptic_{split}" + ("_trainId" if train_ids else "")
    (root / "gtFine" / base).mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for name in frames:
        ids = ids_of_instances()
        segments = []
        for each in np.unique(ids[ids != 1]).tolist():
            category = each if each < 1000 else each // 1000
            segments.append(
                {
                    "id": each,
                    "category_id": number[category] if train_ids else category,
                    "area": int((ids == each).sum()),
                    "iscrowd": int(each == CROWD),
                }
            )
        write_segments(root / "gtFine" / base / f"{name}_gtFine_panoptic.png", np.where(ids == 1, 0, ids))
        images.append({"id": name, "width": 8, "height": 6, "file_name": f"{name}_gtFine_leftImg8bit.png"})
        annotations.append(
            {"image_id": name, "file_name": f"{name}_gtFine_panoptic.png", "segments_info": segments}
        )
        folder = root / "leftImg8bit" / split / name.split("_")[0]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE[::-1]).save(folder / f"{name}_leftImg8bit.png")
    file = root / "gtFine" / f"{base}.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return file


FRAMES = ["ulm_000001_000019", "aachen_000000_000019"]


@pytest.mark.parametrize("train_ids", [False, True])
def test_stuff_things_and_regions_of_many(tmp_path: Path, train_ids: bool) -> None:
    write_split(tmp_path, "train", FRAMES, train_ids=train_ids)
    data = open_panoptic(tmp_path, "train")
    assert (len(data.panoptic.things), len(data.panoptic.stuff)) == (8, 11)
    assert data.panoptic == CITYSCAPES_PANOPTIC
    assert [record.key for record in data.records] == sorted(FRAMES)
    assert data.records[0].file == tmp_path / "leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png"
    sample = data[0]
    truth = data.truth(0, sample)
    car, person = data.classes.index("car"), data.classes.index("person")
    assert sorted(zip(sample.labels.tolist(), sample.crowd.tolist(), strict=True)) == [
        (person, True),
        (car, False),
        (car, False),
    ]
    assert sorted(sample.boxes.tolist()) == [[0, 0, 8, 1], [1, 2, 3, 4], [5, 2, 7, 4]]
    names = [data.panoptic.names[label] for label in truth.labels]
    assert dict(zip(names, truth.areas().tolist(), strict=True))["road"] == 4 * 8 - 8
    assert sorted(names) == ["car", "car", "person", "road"]
    expected = np.full(SIZE, 1)
    expected[0] = expected[2:4, 1:3] = expected[2:4, 5:7] = 0
    expected[5] = 255
    assert sample.semantic.tolist() == expected.tolist()
    ids = {name: id for id, name in TRAIN_IDS.items()}
    wanted = [list(TRAIN_IDS).index(ids[name]) if train_ids else ids[name] for name in data.panoptic.names]
    assert data.category_ids == tuple(wanted)


def test_ids_of_labels_come_first(tmp_path: Path) -> None:
    write_split(tmp_path, "val", FRAMES, train_ids=True)
    write_split(tmp_path, "val", FRAMES[:1])
    assert len(open_panoptic(tmp_path, "val")) == 1
    assert cityscapes_panoptic_splits(tmp_path) == panoptic_split_names(tmp_path) == ("val",)
    assert has_panoptic_split(tmp_path, "val", "cityscapes")
    assert not has_panoptic_split(tmp_path, "train")
    with pytest.raises(InputError, match=r"no file for 'test' .*cityscapesScripts\. Splits found: val"):
        read_cityscapes_panoptic(tmp_path, "test")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["images"][0].update(id=3), "must have 'id' .str."),
        (lambda c: c["images"][0].update(id="../a_0_1"), "named <city>_<sequence>_<frame>, but got ../a_0_1"),
        (lambda c: c["images"].append(c["images"][0]), "image id must be unique"),
        (lambda c: c["annotations"][0].update(image_id="bonn_0_1"), "a listed image, but got bonn_0_1"),
        (lambda c: c["annotations"].append(c["annotations"][0]), "must be the one of a listed image"),
        (
            lambda c: c["categories"][0].update(name="street"),
            "the things of Cityscapes are .*but got road, street",
        ),
        (lambda c: c["categories"][13].update(isthing=0), "the things of Cityscapes are .*but got car"),
    ],
)
def test_bad_file_is_one_clear_error(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    file = write_split(tmp_path, "train", FRAMES)
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        read_cityscapes_panoptic(tmp_path, "train")
