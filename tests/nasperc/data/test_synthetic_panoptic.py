from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from nasperc.data.formats import open_dataset
from nasperc.data.panoptic import PanopticDataset
from nasperc.data.panoptic_formats import open_panoptic
from nasperc.data.sample import SEMANTIC_IGNORE
from nasperc.data.synthetic_panoptic import write_synthetic_panoptic
from nasperc.data.synthetic_scene import SHAPES
from nasperc.data.synthetic_stuff import STUFF, draw_stuff
from nasperc.errors import InputError

IMAGES = {"train": 8, "val": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("synthetic") / "data"
    return write_synthetic_panoptic(root, images=IMAGES, size=(96, 128))


@pytest.fixture(scope="module")
def train(folder: Path) -> PanopticDataset:
    return open_panoptic(folder, "train", strict=True)


def test_the_readers_take_it(folder: Path, train: PanopticDataset) -> None:
    assert train.panoptic == (tuple(sorted(SHAPES)), tuple(sorted(STUFF)))
    assert (len(train), len(open_panoptic(folder, "val"))) == (8, 2)
    objects = open_dataset(folder, "train", masks=True)
    assert objects.classes == train.classes
    for index, record in enumerate(objects.records):
        np.testing.assert_array_equal(record.boxes, train.records[index].boxes)
    assert train.report.lines() == []


def test_every_pixel_is_of_a_thing_of_stuff_or_at_a_border(train: PanopticDataset) -> None:
    for index in range(len(train)):
        sample = train[index]
        things = sample.masks.bitmaps().any(0)
        assert torch.equal(sample.semantic == 0, things)
        void = sample.semantic == SEMANTIC_IGNORE
        assert torch.equal(void, sample.panoptic == 0)
        # A pixel's width to either side of a line, and more stuff than that.
        assert void.float().mean() < 0.06
        assert (sample.semantic[~void & ~things] > 0).all()


def test_ids_use_all_three_channels(train: PanopticDataset) -> None:
    ids = np.concatenate([record.segments.ids for record in train.records])
    assert all(((ids >> shift) & 255).any() for shift in (0, 8, 16))


def test_same_seed_same_bytes(folder: Path, tmp_path: Path) -> None:
    def hashes(root: Path) -> dict[str, str]:
        files = [file for file in root.rglob("*") if file.suffix in (".json", ".png")]
        return {str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}

    again = write_synthetic_panoptic(tmp_path / "again", images=IMAGES, size=(96, 128))
    assert hashes(again) == hashes(folder)
    other = write_synthetic_panoptic(tmp_path / "other", images=IMAGES, size=(96, 128), seed=1)
    assert hashes(other) != hashes(folder)


def test_a_tiny_train_split_decides_the_classes(tmp_path: Path) -> None:
    root = write_synthetic_panoptic(tmp_path / "a", images={"train": 1, "val": 4}, size=(64, 64))
    train, val = open_panoptic(root, "train"), open_panoptic(root, "val")
    assert val.panoptic == train.panoptic
    assert len(train.panoptic.stuff) < len(STUFF)
    seen = {int(label) for record in val.records for label in record.segments.labels}
    assert max(seen) < len(val.panoptic.names)


def test_impossible_arguments(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="size >= 32"):
        write_synthetic_panoptic(tmp_path / "a", size=(16, 64))


@pytest.mark.parametrize("names", [["sky"], ["sky", "grass"], ["sky", "grass", "water"]])
def test_a_ground_has_a_region_for_each_name(names: list[str]) -> None:
    image, region = draw_stuff((60, 80), names, np.random.default_rng(3))
    assert image.shape == (60, 80, 3)
    assert image.dtype == np.float32
    places = [-1] * (len(names) > 1) + list(range(len(names)))
    assert np.unique(region).tolist() == places
    for place in range(len(names)):
        assert (region == place).mean() > 0.05
    # No pixel lies beside one of another region: the border is between them.
    for a, b in ((region[1:], region[:-1]), (region[:, 1:], region[:, :-1])):
        assert ((a == b) | (a == -1) | (b == -1)).all()


def test_textures_can_be_told_apart_by_their_colour() -> None:
    means = {
        name: np.stack([draw((40, 40), np.random.default_rng(k)).mean((0, 1)) for k in range(5)])
        for name, draw in STUFF.items()
    }
    for name, of_it in means.items():
        for other, of_other in means.items():
            if name != other:
                assert np.abs(of_it[:, None] - of_other[None]).max(-1).min() > 20
