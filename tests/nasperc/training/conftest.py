import pytest
import torch

from nasperc.assembly.detector import Baseline, build_detector
from nasperc.assembly.recipe import ModelRecipe
from nasperc.data.formats import open_dataset
from nasperc.data.synthetic import write_synthetic
from nasperc.training.recipe import TrainingRecipe


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "synthetic"
    write_synthetic(folder, images={"train": 5, "val": 2}, size=(64, 80), formats=("coco",))
    return open_dataset(folder, "train")


@pytest.fixture
def make_detector(dataset):
    def make(seed=0, frozen_bn=False):
        torch.manual_seed(seed)
        recipe = ModelRecipe(backbone={"width_mult": 0.1, "frozen_bn": frozen_bn})
        return build_detector(recipe, Baseline(64, 64, 1), len(dataset.classes))

    return make


@pytest.fixture
def recipe():
    return TrainingRecipe(
        iterations=6,
        batch_size=2,
        learning_rate=0.01,
        warmup_iterations=2,
        short_sides=(48, 64),
        max_long_side=96,
        test_short_side=64,
        ema_decay=0.5,
        checkpoint_every=2,
    )
