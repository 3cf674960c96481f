import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nasperc.data.formats import open_dataset, splits
from nasperc.data.synthetic import write_synthetic
from nasperc.data.synthetic_scene import MIN_VISIBLE, SHAPES, draw_scene
from nasperc.errors import InputError

IMAGES = {"train": 8, "val": 3, "test": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_synthetic(tmp_path_factory.mktemp("synthetic") / "data", images=IMAGES, size=(96, 128))


def annotations(folder: Path) -> dict[str, str]:
    files = [f for f in folder.rglob("*") if f.suffix in (".xml", ".json", ".txt")]
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def test_voc_and_coco_read_back_the_same(folder):
    assert set(splits(folder / "voc")) == set(splits(folder / "coco")) == set(IMAGES)
    for split, count in IMAGES.items():
        voc, coco = (open_dataset(folder / name, split, strict=True, masks=True) for name in ("voc", "coco"))
        assert len(voc) == len(coco) == count
        assert voc.classes == coco.classes == tuple(sorted(SHAPES))
        for a, b in zip(voc.records, coco.records, strict=True):
            assert a.file.name == b.file.name
            assert a.file.read_bytes() == b.file.read_bytes()
            np.testing.assert_array_equal(a.boxes, b.boxes)
            np.testing.assert_array_equal(a.labels, b.labels)
            np.testing.assert_array_equal(a.areas, b.areas)
            assert len(a.boxes) >= 1
        for one, other in zip(voc, coco, strict=True):
            assert torch.equal(one.masks.bitmaps(), other.masks.bitmaps())


def test_maps_of_objects_are_palette_images_on_black(folder):
    for file in (folder / "voc" / "SegmentationObject").iterdir():
        picture = Image.open(file)
        numbers = np.asarray(picture)
        assert picture.mode == "P"
        assert np.unique(numbers).tolist() == list(range(numbers.max() + 1))
        colours = np.asarray(picture.convert("RGB"))
        assert not colours[numbers == 0].any()
        assert colours[numbers > 0].any(axis=1).all()


def test_masks_are_disjoint_and_boxes_go_around_them(folder):
    data = open_dataset(folder / "coco", "train", masks=True)
    for sample, record in zip(data, data.records, strict=True):
        assert sample.image.shape == (3, 96, 128)
        masks = sample.masks.bitmaps()
        assert masks.sum(dim=0).max() == 1
        for mask, box, area in zip(masks, sample.boxes.int().tolist(), record.areas, strict=True):
            x1, y1, x2, y2 = box
            assert mask.sum() == mask[y1:y2, x1:x2].sum() == area
            window = mask[y1:y2, x1:x2]
            assert all(edge.any() for edge in (window[0], window[-1], window[:, 0], window[:, -1]))


def test_same_seed_same_bytes(folder, tmp_path):
    again = write_synthetic(tmp_path / "again", images=IMAGES, size=(96, 128))
    assert annotations(again) == annotations(folder)
    other = write_synthetic(tmp_path / "other", images=IMAGES, size=(96, 128), seed=1)
    assert annotations(other) != annotations(folder)


def test_one_format_lies_in_the_folder_itself(tmp_path):
    root = write_synthetic(tmp_path / "a", images={"train": 2}, size=(64, 64), formats=("coco",))
    assert len(open_dataset(root, "train")) == 2
    root = write_synthetic(tmp_path / "b", images={"train": 2}, size=(64, 64), formats=("voc",))
    assert len(open_dataset(root, "train")) == 2


def test_tiny_train_split_decides_the_classes(tmp_path):
    root = write_synthetic(tmp_path / "a", images={"train": 1, "val": 6}, size=(64, 64), seed=3)
    for name in ("voc", "coco"):
        train, val = open_dataset(root / name, "train"), open_dataset(root / name, "val")
        assert val.classes == train.classes
        assert set(train.records[0].labels) == set(range(len(train.classes)))


def test_folder_is_reused_or_refused_and_nothing_is_left_behind(tmp_path, monkeypatch):
    arguments = {"images": {"train": 1}, "size": (64, 64), "formats": ("coco",)}
    root = write_synthetic(tmp_path / "a", **arguments)
    image = next(root.rglob("*.jpg"))
    before = image.stat().st_mtime_ns
    assert write_synthetic(tmp_path / "a", **arguments) == root
    assert image.stat().st_mtime_ns == before
    with pytest.raises(InputError, match="new folder"):
        write_synthetic(tmp_path / "a", **arguments, seed=1)
    with pytest.raises(InputError, match="new folder"):
        write_synthetic(tmp_path, **arguments)

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr("nasperc.data.synthetic.save_image", full)
    with pytest.raises(OSError, match="no space"):
        write_synthetic(tmp_path / "b", **arguments)
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": ("disc", "hexagon")}, "one of cross, disc.*'?hexagon"),
        ({"classes": ()}, "needs classes"),
        ({"formats": ("yolo",)}, "formats out of voc and coco"),
        ({"formats": ()}, "formats out of voc and coco"),
        ({"size": (16, 64)}, "size >= 32"),
        ({"images": {"train": 0}}, "size >= 32 and images"),
    ],
)
def test_impossible_arguments(tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        write_synthetic(tmp_path / "a", **arguments)


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("disc", [(0, 0), (0.7, 0.7)], [(0.72, 0.72)]),
        ("ring", [(0.7, 0)], [(0, 0), (0.5, 0), (1.01, 0)]),
        ("square", [(0.7, 0.7)], [(0.76, 0)]),
        ("cross", [(0, 0.9), (0.9, 0)], [(0.5, 0.5)]),
        ("triangle", [(0, -0.95), (0, 0.45), (0.8, 0.45)], [(0, 0.55), (0.5, -0.5)]),
        ("star", [(0.95, 0), (0, 0)], [(0.6 * np.cos(np.pi / 5), 0.6 * np.sin(np.pi / 5)), (-0.9, 0)]),
    ],
)
def test_shapes(name, inside, outside):
    u, v = np.array(inside + outside, float).T
    assert SHAPES[name](u, v).tolist() == [True] * len(inside) + [False] * len(outside)


def test_scene_shows_enough_of_every_object():
    for seed in range(5):
        scene = draw_scene((80, 80), ["disc"] * 8, np.random.default_rng(seed))
        assert scene.image.shape == (80, 80, 3)
        assert len(scene.classes) == len(scene.masks) >= 2
        # The smallest disc has a radius of 6 pixels and is squeezed to three quarters at most.
        assert min(mask.sum() for mask in scene.masks) >= MIN_VISIBLE * 0.75 * np.pi * 5.5**2
        assert torch.from_numpy(scene.masks).sum(0).max() == 1
