"""The tests of several rooms share small data sets, what a search found on them, and checkpoints for videos."""

import sys
from pathlib import Path

import pytest

from nasperc.data.formats import open_dataset, open_video
from nasperc.data.synthetic import write_synthetic
from nasperc.data.synthetic_video import write_synthetic_video
from nasperc.recipe.reading import parse_recipe

sys.path.append(str(Path(__file__).parent))

FRAMES, SIZE = 4, (48, 64)


@pytest.fixture(scope="session")
def video_data(tmp_path_factory):
    """A folder with two videos to train on, and one each to validate and test on."""
    folder = tmp_path_factory.mktemp("data") / "video"
    return write_synthetic_video(folder, videos={"train": 2, "val": 1, "test": 1}, frames=FRAMES, size=SIZE)


@pytest.fixture(scope="session")
def videos(video_data):
    """The train split."""
    return open_video(video_data, "train")


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "synthetic"
    return write_synthetic(folder, images={"train": 4, "val": 2, "test": 2}, size=(64, 64), formats=("coco",))


@pytest.fixture(scope="session")
def recipe(data):
    document = {
        "data": {"path": str(data)},
        "model": {"backbone": {"width_mult": 0.1}},
        "fulltrain": {
            "iterations": 2,
            "batch_size": 2,
            "short_sides": [64],
            "max_long_side": 64,
            "test_short_side": 64,
            "checkpoint_every": 1,
        },
    }
    return parse_recipe(document, where="test")


@pytest.fixture(scope="session")
def train_split(data):
    return open_dataset(data, "train")


@pytest.fixture
def top10(tmp_path, recipe, train_split):
    """A run folder's ``top10.json`` with two random entries of width 64."""
    from top10_file import write_top10

    return write_top10(
        tmp_path / "runs" / "search-001",
        recipe,
        stage="head",
        task="detection",
        classes=train_split.classes,
        widths={"fpn": 64, "head": 64},
        rewards=(-1.0, -2.0),
    )
