"""Panoptic samples: things as objects, stuff in a semantic map, and all segments, through every transform."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from panoptic_folder import SEGMENTS, SIZE, edit, segment, segments_of, write_map, write_panoptic
from PIL import Image

from nasperc.data.coco_panoptic import coco_panoptic_classes, read_coco_panoptic
from nasperc.data.panoptic import MOST_STUFF, PanopticClasses, PanopticDataset
from nasperc.data.sample import SEMANTIC_IGNORE
from nasperc.data.segment_map import places_in, read_segments, write_segments
from nasperc.data.transforms import Compose, HorizontalFlip, MultiScaleResize, Pad, RandomCrop
from nasperc.errors import InputError
from nasperc.models.panoptic.segmentation import THINGS

THING, SKY, VOID = THINGS, 1, SEMANTIC_IGNORE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_panoptic(tmp_path / "panoptic")


def expected_semantic() -> torch.Tensor:
    semantic = torch.full(SIZE, VOID)
    semantic[:8], semantic[10:18, 2:12], semantic[9:19, 15:25] = SKY, THING, THING
    return semantic


def test_a_sample_has_things_stuff_and_segments(folder: Path) -> None:
    data = read_coco_panoptic(folder, "train")
    assert (
        data.panoptic
        == PanopticClasses(("cat", "person"), ("sky",))
        == coco_panoptic_classes(folder, "train")
    )
    assert data.classes == ("cat", "person")
    assert data.category_ids == (17, 1, 187)
    sample, record = data[0], data.records[0]
    assert (sample.labels.tolist(), sample.crowd.tolist()) == ([1, 0], [False, True])
    assert sample.boxes.tolist() == [[2, 10, 12, 18], [15, 9, 25, 19]]
    assert sample.masks.bitmaps().sum((1, 2)).tolist() == [80, 100]
    assert torch.equal(sample.semantic, expected_semantic())
    assert (record.segments.ids.tolist(), record.segments.labels.tolist()) == ([5, 300, 70_000], [2, 1, 0])
    truth = data.truth(0, sample)
    assert (truth.labels.tolist(), truth.crowd.tolist()) == ([2, 1, 0], [False, False, True])
    assert truth.areas().tolist() == [240, 80, 100]
    assert torch.equal(truth.map, sample.panoptic)
    for number, (x1, y1, x2, y2) in enumerate(SEGMENTS.values(), start=1):
        assert (sample.panoptic[y1:y2, x1:x2] == number).all()


def test_an_image_that_is_not_annotated_is_void(folder: Path) -> None:
    sample = read_coco_panoptic(folder, "train")[1]
    assert (sample.semantic == VOID).all()
    assert (sample.panoptic == 0).all()
    assert len(sample.boxes) == len(sample.masks) == 0


@pytest.mark.parametrize(("kept", "objects", "shown"), [(5, 0, {SKY, VOID}), (300, 1, {THING, VOID})])
def test_an_image_may_have_stuff_alone_or_things_alone(
    folder: Path, kept: int, objects: int, shown: set[int]
) -> None:
    edit(
        folder,
        lambda content: content["annotations"][0].update(
            segments_info=[segment(kept, 187 if kept == 5 else 1)]
        ),
    )
    write_map(folder / "annotations/panoptic_train2017/2.png", {kept: SEGMENTS[kept]})
    sample = read_coco_panoptic(folder, "train")[0]
    assert len(sample.boxes) == objects
    assert set(sample.semantic.unique().tolist()) == shown


def test_every_field_goes_through_the_transforms_together(folder: Path) -> None:
    """The maps say of each pixel what the masks say of it, whatever was done to the image."""
    data = read_coco_panoptic(folder, "train")
    transform = Compose(
        MultiScaleResize((24, 50), 90), HorizontalFlip(0.5), Pad((60, 60)), RandomCrop((40, 44))
    )
    for seed in range(8):
        sample = transform(data[0], np.random.default_rng(seed))
        things = torch.zeros(sample.semantic.shape, dtype=torch.bool)
        labels = torch.tensor([1, 0])
        for label, mask in zip(sample.labels, sample.masks.bitmaps(), strict=True):
            number = 2 + int((labels == label).nonzero())
            assert torch.equal(mask, sample.panoptic == number)
            things |= mask
        assert torch.equal(things, sample.semantic == THING)
        assert torch.equal(sample.panoptic == 1, sample.semantic == SKY)
        assert sample.semantic.shape == sample.image.shape[1:]


def test_crowds_left_out_of_the_training_stay_in_the_maps(folder: Path) -> None:
    data = read_coco_panoptic(folder, "train")
    part = data.without_crowd_regions()
    assert isinstance(part, PanopticDataset)
    assert len(part[0].boxes) == 1
    assert torch.equal(part[0].semantic, expected_semantic())
    assert isinstance(data.subset([1]), PanopticDataset)
    assert data.subset([0]).category_ids == data.category_ids


def test_what_is_listed_of_stuff_and_the_bytes_of_maps_count(folder: Path) -> None:
    before = read_coco_panoptic(folder, "train").fingerprint()
    assert before == read_coco_panoptic(folder, "train").fingerprint()
    edit(folder, lambda content: segments_of(content)[0].update(id=6))
    write_map(
        folder / "annotations/panoptic_train2017/2.png", {6 if k == 5 else k: v for k, v in SEGMENTS.items()}
    )
    renamed = read_coco_panoptic(folder, "train").fingerprint()
    assert renamed != before
    edit(folder, lambda content: content["categories"][2].update(name="cloud"))
    assert read_coco_panoptic(folder, "train").fingerprint() != renamed


def test_classes_in_another_order(folder: Path) -> None:
    other = coco_panoptic_classes(folder, "train").ordered(("person", "cat"), "classes.txt")
    assert other == PanopticClasses(("person", "cat"), ("sky",))
    assert other.ordered(("sky", "cat", "person"), "classes.txt").things == ("cat", "person")
    data = read_coco_panoptic(folder, "train", other)
    assert data[0].labels.tolist() == [0, 1]
    assert data.category_ids == (1, 17, 187)
    assert torch.equal(data[0].semantic, expected_semantic())
    for names, wrong in ((("cat",), "'person' missing"), (("cat", "person", "dog"), "'dog' unknown")):
        with pytest.raises(InputError, match=rf"must have all of person, cat.*{wrong}"):
            other.ordered(names, "classes.txt")


def test_a_class_of_stuff_that_is_not_known_is_an_error(folder: Path) -> None:
    with pytest.raises(InputError, match="category of a segment must be one of the classes, but got 'sky'"):
        read_coco_panoptic(folder, "train", PanopticClasses(("cat", "person"), ("grass",)))
    # A class that no segment has is none to ask for.
    edit(folder, lambda content: content["categories"].append({"id": 9, "name": "sea", "isthing": 0}))
    data = read_coco_panoptic(folder, "train", PanopticClasses(("cat", "person"), ("sky",)))
    assert data.category_ids == (17, 1, 187)
    assert (
        read_coco_panoptic(folder, "train", PanopticClasses(("cat", "person"), ("sky", "sand"))).category_ids
        is None
    )


def test_one_class_is_no_way_to_read_it(folder: Path) -> None:
    with pytest.raises(InputError, match=r"data\.one_class"):
        read_coco_panoptic(folder, "train").as_one_class()


def test_stuff_has_room_in_a_semantic_map(folder: Path) -> None:
    data = read_coco_panoptic(folder, "train")
    names = tuple(f"s{k}" for k in range(MOST_STUFF + 1))
    PanopticDataset("a", "train", PanopticClasses(("cat",), names[1:]), data.records)
    with pytest.raises(InputError, match="254 classes of stuff at most, but got 255"):
        PanopticDataset("a", "train", PanopticClasses(("cat",), names), data.records)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: segments_of(c)[0].pop("category_id"), "must have 'category_id'"),
        (lambda c: segments_of(c)[0].update(category_id=55), "category id must be listed, but got 55"),
        (lambda c: segments_of(c)[0].update(iscrowd="no"), "'iscrowd' of annotation 5 must be 0 or 1"),
        (
            lambda c: c["categories"].append({"id": 1, "name": "crowd", "isthing": 0}),
            "category id must be unique, but got 1 twice",
        ),
        (
            lambda c: c["categories"].append({"id": 2, "name": "cat", "isthing": 0}),
            "must be of things or of stuff, but got 'cat' of both",
        ),
        (
            lambda c: (c["categories"].pop(), segments_of(c).pop(0)),
            "categories of things and of stuff, but got no stuff",
        ),
        (lambda c: [each.update(isthing=0) for each in c["categories"]], "but got no things"),
        (lambda c: c["categories"][2].update(name=" "), "name must not be empty"),
    ],
)
def test_bad_file_is_one_clear_error(
    folder: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    edit(folder, change)
    with pytest.raises(InputError, match=message) as error:
        read_coco_panoptic(folder, "train")
    assert error.value.where.endswith("panoptic_train2017.json")


def sixteen_bits(file: Path) -> None:
    """A PNG of 16 bits a channel, which pillow can read and not write."""
    import struct
    import zlib

    height, width = SIZE

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    rows = (b"\0" + b"\1\2" * 3 * width) * height
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (
            lambda file: write_map(file, {**SEGMENTS, 9: (0, 19, 1, 20)}),
            "must be listed for its image, but got no entry of the id 9",
        ),
        (
            lambda file: write_map(file, {5: SEGMENTS[5], 300: SEGMENTS[300]}),
            "must have a pixel .*none of the id 70000",
        ),
        (
            lambda file: Image.new("RGB", (20, 30)).save(file),
            "must have the size of its image, but got 20x30",
        ),
        (lambda file: Image.new("I;16", (30, 20)).save(file), "must be an RGB image of ids.*mode I;16"),
        (sixteen_bits, "must have eight bits a channel, but got mode RGB of 16 bits"),
        (lambda file: file.write_bytes(b"nothing"), "an annotation must be a readable image"),
    ],
)
def test_bad_map_is_one_clear_error(folder: Path, write: Callable[[Path], object], message: str) -> None:
    file = folder / "annotations/panoptic_train2017/2.png"
    data = read_coco_panoptic(folder, "train")
    write(file)
    with pytest.raises(InputError, match=message) as error:
        data[0]
    assert error.value.where == str(file)


def test_a_missing_map_is_an_error_when_the_split_is_opened(folder: Path) -> None:
    (folder / "annotations/panoptic_train2017/2.png").unlink()
    with pytest.raises(InputError, match="a listed map of segments must exist"):
        read_coco_panoptic(folder, "train")


@given(st.lists(st.integers(1, (1 << 24) - 1), min_size=1, max_size=6, unique=True), st.randoms())
def test_places_are_those_in_the_list(
    tmp_path_factory: pytest.TempPathFactory, ids: list[int], random: Any
) -> None:
    file = tmp_path_factory.mktemp("maps") / "a.png"
    # Every id is there, and void.
    flat = [*ids, 0, *(random.choice([0, *ids]) for _ in range(17 - len(ids)))]
    random.shuffle(flat)
    written = np.array(flat).reshape(3, 6)
    write_segments(file, written)
    read = read_segments(file, (3, 6))
    assert np.array_equal(read, written)
    slow = [[0 if each == 0 else 1 + ids.index(each) for each in row] for row in written.tolist()]
    assert places_in(read, np.array(ids), file).tolist() == slow


def test_records_keep_what_the_file_calls_them(folder: Path) -> None:
    data = read_coco_panoptic(folder, "train")
    assert [record.key for record in data.records] == [2, 7]
    assert replace(data.records[0], key="a").key == "a"
