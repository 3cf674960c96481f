import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nasperc.data.formats import detect_format, open_video, splits
from nasperc.data.synthetic_scene import SHAPES
from nasperc.data.synthetic_video import write_synthetic_video
from nasperc.errors import InputError

VIDEOS = {"train": 4, "val": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("synthetic") / "data"
    return write_synthetic_video(path, videos=VIDEOS, frames=5, size=(64, 96))


def content(folder: Path) -> dict[str, str]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def test_it_reads_back_as_runs_of_annotated_frames(folder):
    assert detect_format(folder) == "camvid"
    assert splits(folder) == ("train", "val")
    for split, videos in VIDEOS.items():
        dataset = open_video(folder, split)
        assert dataset.classes == ("background", *SHAPES)
        assert [len(run) for run in dataset.runs] == [5] * videos
        assert len(dataset.annotated()) == len(dataset) == 5 * videos
        assert len(dataset.sequences(3)) == 3 * videos


def test_labels(folder):
    dataset = open_video(folder, "train")
    counts = sum(np.bincount(dataset[k].semantic.flatten(), minlength=256) for k in range(len(dataset)))
    assert set(np.flatnonzero(counts)) <= {*range(7), 255}
    assert (counts[:7] > 0).all()
    assert 0 < counts[255] < 0.1 * counts.sum()
    assert 0.3 < counts[0] / counts.sum() < 0.95
    with Image.open(dataset.frames[0].annotation) as picture:
        assert picture.mode == "P"
    for k in dataset.runs[0][1:]:
        assert (dataset[k].semantic != dataset[k - 1].semantic).any()
        assert (dataset[k].image != dataset[k - 1].image).any()


def test_same_seed_same_files(folder, tmp_path):
    again = write_synthetic_video(tmp_path / "a", videos=VIDEOS, frames=5, size=(64, 96))
    assert content(again) == content(folder)
    other = write_synthetic_video(tmp_path / "b", videos=VIDEOS, frames=5, size=(64, 96), seed=1)
    assert content(other)["train/train000_00000.jpg"] != content(folder)["train/train000_00000.jpg"]
    with pytest.raises(InputError, match="new folder"):
        write_synthetic_video(tmp_path / "b", videos=VIDEOS, frames=5, size=(64, 96), seed=2)


def test_labels_follow_the_order_of_the_classes(tmp_path):
    arguments = {"videos": {"train": 2}, "frames": 2, "size": (64, 64)}
    maps = [
        open_video(write_synthetic_video(tmp_path / "".join(c), classes=c, **arguments), "train")
        for c in (("disc",), ("disc", "star"))
    ]
    assert [data.classes for data in maps] == [("background", "disc"), ("background", "disc", "star")]
    found = [set(np.unique(np.stack([s.semantic for s in data]))) for data in maps]
    assert found[0] <= {0, 1, 255}
    assert found[1] <= {0, 1, 2, 255}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": ("disc", "hexagon")}, "one of cross, disc.*hexagon"),
        ({"classes": ()}, "needs classes"),
        ({"classes": ("disc", "disc")}, "named once"),
        ({"size": (16, 64)}, "size >= 32"),
        ({"frames": 1}, "at least two frames, but got .* 1 frames"),
        ({"videos": {"train": 0}}, "size >= 32"),
    ],
)
def test_impossible_arguments(tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        write_synthetic_video(tmp_path / "a", **arguments)
