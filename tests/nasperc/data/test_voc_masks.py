"""VOC's maps of objects as masks of boxes, alone and through the reader of the layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from nasperc.data.formats import open_dataset
from nasperc.data.voc_masks import masks_of_boxes
from nasperc.errors import InputError

SIZE = (20, 30)


def write_map(file: Path, regions: dict[int, tuple[int, int, int, int]], mode: str = "P") -> np.ndarray:
    """Rectangles (x1, y1, x2, y2) by index, later ones over earlier ones; returns the indices."""
    indices = np.zeros(SIZE, np.uint8)
    for index, (x1, y1, x2, y2) in regions.items():
        indices[y1:y2, x1:x2] = index
    file.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(indices)
    if mode == "P":
        picture.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    (picture if mode == "P" else picture.convert(mode)).save(file)
    return indices


def chosen(
    file: Path, boxes: list[tuple[float, float, float, float]], indices: np.ndarray
) -> list[int | None]:
    """The index that each box got, by its mask."""
    found = []
    for mask in masks_of_boxes(file, boxes, SIZE):
        if mask is None:
            found.append(None)
            continue
        pixels = coco_mask.decode(mask.run_lengths).astype(bool)
        (index,) = np.unique(indices[pixels])
        assert (pixels == (indices == index)).all()
        assert mask.area == pixels.sum()
        found.append(int(index))
    return found


def test_each_box_gets_the_index_that_overlaps_it_best(tmp_path: Path) -> None:
    # A large object with two small ones on it, and the borders between them.
    regions = {
        7: (2, 2, 22, 18),
        255: (4, 4, 11, 11),
        3: (5, 5, 10, 10),
        9: (14, 6, 20, 12),
        200: (24, 0, 30, 4),
    }
    indices = write_map(tmp_path / "a.png", regions)
    boxes = [(13.0, 5.0, 21.0, 13.0), (2.0, 2.0, 22.0, 18.0), (4.0, 4.0, 11.0, 11.0), (23.5, 0.0, 30.0, 4.5)]
    assert chosen(tmp_path / "a.png", boxes, indices) == [9, 7, 3, 200]
    assert chosen(tmp_path / "a.png", boxes[::-1], indices) == [200, 3, 7, 9]


def test_an_index_is_given_once_and_to_the_better_box(tmp_path: Path) -> None:
    indices = write_map(tmp_path / "a.png", {1: (2, 2, 12, 12), 2: (15, 2, 25, 12)})
    boxes = [(2.0, 2.0, 12.0, 15.0), (2.0, 2.0, 12.0, 12.0), (15.0, 2.0, 25.0, 12.0)]
    assert chosen(tmp_path / "a.png", boxes, indices) == [None, 1, 2]


def test_what_is_mostly_elsewhere_is_no_mask_of_a_box(tmp_path: Path) -> None:
    indices = write_map(tmp_path / "a.png", {1: (0, 0, 20, 10)})
    # Its left fifth; a box beside it; one that it fills to a tenth, but that holds it.
    boxes = [(0.0, 0.0, 4.0, 10.0), (22.0, 0.0, 30.0, 10.0)]
    assert chosen(tmp_path / "a.png", boxes, indices) == [None, None]
    assert chosen(tmp_path / "a.png", [*boxes, (0.0, 0.0, 30.0, 20.0)], indices) == [None, None, 1]


def test_maps_without_objects_and_boxes_without_maps(tmp_path: Path) -> None:
    write_map(tmp_path / "a.png", {255: (0, 0, 30, 20)})
    assert masks_of_boxes(tmp_path / "a.png", [(1.0, 1.0, 5.0, 5.0)], SIZE) == [None]
    assert masks_of_boxes(tmp_path / "a.png", [], SIZE) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: write_map(file, {1: (0, 0, 5, 5)}, "RGB"), "palette or grey image.*mode RGB"),
        (lambda file: Image.new("P", (20, 30)).save(file), "must have the size of its image, but got 20x30"),
        (lambda file: file.write_bytes(b"no image"), "must be a readable image"),
    ],
)
def test_bad_map_is_one_clear_error(tmp_path: Path, change, message: str) -> None:
    file = tmp_path / "a.png"
    change(file)
    with pytest.raises(InputError, match=message) as error:
        masks_of_boxes(file, [(0.0, 0.0, 5.0, 5.0)], SIZE)
    assert error.value.where == str(file)


def voc_object(name: str, *corners: int, difficult: int = 0) -> str:
    box = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{box}</bndbox></object>"


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Images a, b, c, of which a and b have maps: the second object of a is difficult, the one of b has no pixel."""
    root = tmp_path / "voc"
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    a = (
        voc_object("cat", 3, 3, 12, 10)
        + voc_object("dog", 16, 3, 25, 12, difficult=1)
        + voc_object("cat", 28, 18, 30, 20)
    )
    for stem, objects in {
        "a": a,
        "b": voc_object("dog", 1, 1, 5, 5),
        "c": voc_object("dog", 1, 1, 5, 5),
    }.items():
        (root / "Annotations" / f"{stem}.xml").write_text(f"<annotation>{objects}</annotation>")
        Image.new("RGB", SIZE[::-1]).save(root / "JPEGImages" / f"{stem}.png")
    (root / "ImageSets/Main/train.txt").write_text("a\nb\nc\n")
    (root / "ImageSets/Segmentation/train.txt").write_text("a\nb\n")
    write_map(
        root / "SegmentationObject" / "a.png", {2: (2, 2, 12, 10), 1: (15, 2, 25, 12), 255: (6, 4, 8, 6)}
    )
    write_map(root / "SegmentationObject" / "b.png", {})
    return root


def test_reader_keeps_boxes_that_have_a_mask(voc: Path) -> None:
    data = open_dataset(voc, "train", masks=True)
    assert [len(record.boxes) for record in data.records] == [2, 0]
    first = data[0]
    assert first.labels.tolist() == [0, 1]
    assert first.crowd.tolist() == [False, True]
    assert data.records[0].areas.tolist() == [76.0, 100.0]
    expected = torch.zeros(2, *SIZE, dtype=torch.bool)
    expected[0, 2:10, 2:12], expected[1, 2:12, 15:25] = True, True
    expected[0, 4:6, 6:8] = False
    assert torch.equal(first.masks.bitmaps(), expected)
    assert data[1].masks.bitmaps().shape == (0, *SIZE)
    assert data.report.lines() == [
        f"2 objects without a mask dropped (first: {voc / 'Annotations' / 'a.xml'})"
    ]
    with pytest.raises(InputError, match=r"must have pixels in the map of its image.*a\.xml"):
        open_dataset(voc, "train", masks=True, strict=True)


def test_boxes_alone_are_read_as_ever(voc: Path) -> None:
    data = open_dataset(voc, "train")
    assert [len(record.boxes) for record in data.records] == [3, 1, 1]
    assert data[0].masks is None
    assert data.records[0].areas.tolist() == [80.0, 100.0, 9.0]
    before = data.fingerprint()
    write_map(voc / "SegmentationObject" / "a.png", {1: (2, 2, 12, 10)})
    assert open_dataset(voc, "train").fingerprint() == before


def test_masks_count_in_the_fingerprint(voc: Path) -> None:
    before = open_dataset(voc, "train", masks=True).fingerprint()
    assert before != open_dataset(voc, "train").fingerprint()
    write_map(voc / "SegmentationObject" / "a.png", {2: (2, 2, 12, 10), 1: (15, 2, 25, 12)})
    assert open_dataset(voc, "train", masks=True).fingerprint() != before


def test_an_image_without_a_map_is_named(voc: Path) -> None:
    (voc / "ImageSets/Segmentation/train.txt").unlink()
    with pytest.raises(
        InputError, match=r"must have a map SegmentationObject/<stem>\.png.*c\.png.*List the images"
    ):
        open_dataset(voc, "train", masks=True)
    # Nothing is to be seen in it.
    (voc / "Annotations" / "c.xml").write_text("<annotation/>")
    assert len(open_dataset(voc, "train", masks=True)) == 3
