from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nasperc.assembly.detector import Baseline
from nasperc.recipe.root import Recipe
from nasperc.tasks.instances.models import InstancesRecipe, build_segmenter
from nasperc.tasks.instances.trained import describe_segmenter
from nasperc.training.checkpoint import save_checkpoint

Write = Callable[..., Path]


@pytest.fixture
def write_checkpoint(tmp_path: Path, recipe: Recipe) -> Write:
    """Writes the checkpoint of an untrained segmenter, with the keys of the section ``task`` that are given."""

    def write(**keys: object) -> Path:
        torch.manual_seed(0)
        # A prior of one half: it has detections.
        options = InstancesRecipe.model_validate({"preset_overrides": {"class_prior": 0.5}, **keys})
        decoder = Baseline(32, 32, 1)
        content = {
            **describe_segmenter(recipe.model, decoder, recipe.space, options),
            "training": recipe.fulltrain.model_dump(mode="json"),
            "classes": ["disc", "square"],
            "normalisation": "tf",
            "step": 0,
            "finished": True,
            "model": build_segmenter(recipe.model, options, decoder, 2).state_dict(),
        }
        save_checkpoint(tmp_path / "checkpoint.pt", content)
        return tmp_path / "checkpoint.pt"

    return write
