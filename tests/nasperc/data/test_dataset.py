import dataclasses
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from nasperc.data.dataset import DetectionDataset, Record
from nasperc.data.image import FORMATS, read_image, read_size
from nasperc.errors import InputError


def record(picture: Path, image_id: int = 5, **changes) -> Record:
    fields = {
        "image_id": image_id,
        "file": picture,
        "size": (4, 6),
        "boxes": np.array([[1, 1, 3, 4], [0, 0, 6, 4]], np.float32),
        "labels": np.array([1, 0]),
        "crowd": np.array([False, True]),
        "areas": np.array([5.0, 24.0]),
    }
    return Record(**{**fields, **changes})


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_sample(picture):
    data = DetectionDataset("toy", "train", ("cat", "dog"), [record(picture)])
    sample = data[0]
    assert sample.image.dtype == torch.uint8
    assert sample.image.permute(1, 2, 0).flatten().tolist() == list(range(72))
    assert sample.boxes.tolist() == [[1, 1, 3, 4], [0, 0, 6, 4]]
    assert (sample.labels.dtype, sample.crowd.dtype) == (torch.int64, torch.bool)
    assert (sample.meta.image_id, sample.meta.file, sample.meta.size) == (5, picture, (4, 6))
    sample.boxes.zero_()
    assert data[0].boxes.sum() != 0
    with pytest.raises(IndexError):
        data[1]
    assert len(pickle.loads(pickle.dumps(data))) == 1


def test_objects_are_what_is_no_crowd(picture):
    data = DetectionDataset("toy", "train", ("cat", "dog"), [record(picture), record(picture)])
    assert data.objects() == 2
    assert data.subset([]).objects() == 0


def test_crowd_regions_can_be_left_out_but_not_difficult_objects(picture):
    records = [record(picture, segmentations=("a", "b")), record(picture, crowd=np.array([False, False]))]
    data = DetectionDataset("toy", "train", ("cat", "dog"), records)
    without = data.without_crowd_regions()
    assert [each.boxes.tolist() for each in without.records] == [[[1, 1, 3, 4]], records[1].boxes.tolist()]
    first = without.records[0]
    assert (first.labels.tolist(), first.crowd.tolist(), first.areas.tolist()) == ([1], [False], [5.0])
    assert first.segmentations == ("a",)
    assert len(data.records[0].boxes) == 2
    assert without.without_crowd_regions() is without
    voc = DetectionDataset("toy", "train", ("cat", "dog"), records, difficult=True)
    assert voc.without_crowd_regions() is voc
    # Meta-train is a part of the split.
    assert voc.subset([0]).without_crowd_regions().objects() == 1
    assert voc.subset([0]).difficult


@pytest.mark.parametrize(
    ("mode", "suffix"), [("L", ".png"), ("P", ".png"), ("RGBA", ".png"), ("CMYK", ".jpg")]
)
def test_every_mode_becomes_rgb(tmp_path, mode, suffix):
    file = tmp_path / f"image{suffix}"
    Image.new("RGB", (6, 4), (200, 200, 200)).convert(mode).save(file)
    image = read_image(file)
    assert image.shape == (3, 4, 6)
    assert (image.int() - 200).abs().max() <= 4


def test_unreadable_images_are_named(tmp_path, picture):
    whole = tmp_path / "whole.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(whole)
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    cut_png = tmp_path / "cut.png"
    cut_png.write_bytes(picture.read_bytes()[:-30])
    text = tmp_path / "text.jpg"
    text.write_text("no image")
    for file in (cut, cut_png, text, tmp_path / "nowhere.jpg", tmp_path):
        with pytest.raises(InputError, match="must be readable") as error:
            read_image(file)
        assert error.value.where == str(file)
    with pytest.raises(InputError, match="must be readable"):
        read_size(text)
    assert read_size(picture) == (4, 6)


def test_size_must_be_as_stated(picture):
    data = DetectionDataset("toy", "train", ("cat", "dog"), [record(picture, size=(6, 4))])
    with pytest.raises(InputError, match="6x4 instead of 4x6"):
        data[0]


def test_exif_rotation_is_not_applied_but_explained(tmp_path):
    file = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (6, 4)).save(file, exif=exif)
    assert read_image(file, (4, 6)).shape == (3, 4, 6)
    with pytest.raises(InputError, match="EXIF rotation"):
        read_image(file, (6, 4))


def test_fingerprint_covers_annotations_names_sizes_and_classes(picture, tmp_path):
    def fingerprint(classes=("cat", "dog"), records=None, **changes):
        return DetectionDataset("toy", "x", classes, records or [record(picture, **changes)]).fingerprint()

    (tmp_path / "elsewhere").mkdir()
    for copy in ("b.png", "elsewhere/a.png"):
        (tmp_path / copy).write_bytes(picture.read_bytes())
    base = fingerprint()
    assert base == fingerprint(boxes=record(picture).boxes.copy())
    assert len(base) == 64
    others = {
        fingerprint(classes=("dog", "cat")),
        fingerprint(boxes=np.array([[1, 1, 3, 3], [0, 0, 6, 4]], np.float32)),
        fingerprint(labels=np.array([0, 0])),
        fingerprint(crowd=np.array([False, False])),
        fingerprint(areas=np.array([5.0, 23.0])),
        fingerprint(size=(4, 7)),
        fingerprint(file=tmp_path / "b.png"),
        fingerprint(image_id=6),
        fingerprint(records=[record(picture), record(tmp_path / "b.png", 6)]),
        fingerprint(segmentations=([[0, 0, 1, 1, 0, 1]], [[0, 0, 1, 1, 0, 1]])),
    }
    assert len(others) == 10
    assert base not in others
    # The folder does not count: a copied data set is the same data set.
    assert base == fingerprint(file=tmp_path / "elsewhere" / "a.png")


def test_coco_ground_truth_is_what_pycocotools_reads(picture, capsys):
    data = DetectionDataset(
        "toy", "val", ("cat", "dog"), [record(picture), record(picture, 9, boxes=np.zeros((0, 4)))]
    )
    truth = data.coco_ground_truth()
    assert json.loads(json.dumps(truth)) == truth
    coco = COCO()
    coco.dataset = truth
    coco.createIndex()
    assert sorted(coco.getImgIds()) == [5, 9]
    first, second = coco.loadAnns(coco.getAnnIds(imgIds=5))
    assert (first["category_id"], first["bbox"], first["area"], first["iscrowd"]) == (2, [1, 1, 2, 3], 5.0, 0)
    assert (second["category_id"], second["bbox"], second["iscrowd"]) == (1, [0, 0, 6, 4], 1)
    assert coco.getAnnIds(imgIds=9) == []
    assert [c["name"] for c in coco.loadCats([1, 2])] == ["cat", "dog"]


def test_subset_keeps_order_classes_and_report(picture):
    data = DetectionDataset("toy", "train", ("cat", "dog"), [record(picture, k) for k in range(4)])
    part = data.subset([3, 1])
    assert [r.image_id for r in part.records] == [3, 1]
    assert (part.classes, part.split, part.report) == (data.classes, "train", data.report)
    assert part.fingerprint() != data.fingerprint()


def test_records_are_frozen(picture):
    with pytest.raises(dataclasses.FrozenInstanceError):
        record(picture).size = (1, 1)


def test_a_file_is_what_its_bytes_say_and_no_program_is_asked(tmp_path):
    """Pillow hands EPS to Ghostscript, whatever the name of the file."""
    Image.new("RGB", (6, 4)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    with pytest.raises(InputError, match="must be readable"):
        read_image(tmp_path / "a.png")
    assert "EPS" not in FORMATS


def test_an_image_that_would_fill_the_memory_is_not_decoded(tmp_path, picture, monkeypatch):
    monkeypatch.setattr("nasperc.data.image.MOST_PIXELS", 20)
    for read in (read_image, read_size):
        with pytest.raises(InputError, match="6x4 pixels, more than"):
            read(picture)


def test_masks_are_made_at_the_size_of_an_image_that_was_seen(picture):
    runs = {"size": [60_000, 60_000], "counts": [3_600_000_000]}
    wrong = record(picture, size=(60_000, 60_000), segmentations=(runs, runs))
    with pytest.raises(InputError, match="6x4 instead of 60000x60000"):
        DetectionDataset("toy", "train", ("cat", "dog"), [wrong])[0]
