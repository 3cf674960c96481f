import pytest
from top10_file import write_top10

from nasperc.data.formats import open_dataset
from nasperc.data.synthetic import write_synthetic
from nasperc.recipe.reading import parse_recipe


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
    return write_top10(
        tmp_path / "runs" / "search-001",
        recipe,
        stage="head",
        task="detection",
        classes=train_split.classes,
        widths={"fpn": 64, "head": 64},
        rewards=(-1.0, -2.0),
    )
