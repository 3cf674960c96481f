import json

import numpy as np
import pytest

from nasperc.data.formats import open_dataset
from nasperc.data.synthetic import write_synthetic
from nasperc.search.components import build_space
from nasperc.search.recipe import parse_recipe


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
    space, rng = build_space(recipe), np.random.default_rng(0)
    entries = []
    for rank in (1, 2):
        architecture = space.architecture({part: space.sample(part, rng) for part in space.parts})
        entries.append(
            {
                "rank": rank,
                "id": rank,
                "stage": "head",
                "architecture": architecture.to_dict(),
                "hash": space.hash(architecture),
                "widths": {"fpn": 64, "head": 64},
                "seed": 1,
                "reward": -float(rank),
                "halfway": None,
                "metrics": {},
                "cost": {},
                "seconds": 1.0,
                "status": "completed",
            }
        )
    content = {
        "format": "nasperc-top10/1",
        "space": {"name": space.name, "version": space.version, "variant": space.variant},
        "stage": "head",
        "task": "detection",
        "recipe": recipe.to_dict(),
        "data": {"classes": list(train_split.classes), "normalisation": "imagenet"},
        "weights": {},
        "search_cost_hours": 0.5,
        "entries": entries,
    }
    path = tmp_path / "runs" / "search-001" / "top10.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
    return path
