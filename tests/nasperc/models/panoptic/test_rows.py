"""The rows of Table 4.10 are recipes of the models that the thesis trained."""

from __future__ import annotations

import json
from importlib import resources

import pytest
import torch

from nasperc.assembly.decoder_recipe import recipe_decoder
from nasperc.models.blendmask.protonet import ProtoNetRecipe
from nasperc.models.panoptic.merge import MergeRecipe
from nasperc.recipe.reading import load_recipe
from nasperc.tasks.lookup import recipe_task
from nasperc.tasks.panoptic.models import PanopticRecipe
from nasperc.tasks.panoptic.task import PanopticTask
from search_spaces.fcos_decoder import FcosDecoder
from search_spaces.fcos_recipe import FcosDecoderRecipe


def printed() -> list[dict[str, object]]:
    """As the thesis has them, other people's too."""
    file = resources.files("experiments") / "table_4_10_thesis.json"
    rows: list[dict[str, object]] = json.loads(file.read_text(encoding="utf-8"))
    return rows


ROWS = [str(row["row"]) for row in printed() if "row" in row]


def test_other_people_s_rows_are_quoted() -> None:
    assert ROWS == ["R-50", "R-101"]
    quoted = [row for row in printed() if "row" not in row]
    assert all("quoted in the thesis's Table 4.10" in str(row["source"]) for row in quoted)
    # PQ is the mean over 80 things and 53 classes of stuff.
    for row in printed():
        things, stuff = float(str(row["pq_things"])), float(str(row["pq_stuff"]))
        assert (80 * things + 53 * stuff) / 133 == pytest.approx(float(str(row["pq"])), abs=0.06)


@pytest.mark.parametrize("row", ROWS)
def test_a_row_is_the_model_of_the_thesis(row: str) -> None:
    """4.4.4: Panoptic-FPN's branch and rule, confidence 0.2, overlap 0.4; 3x with short sides of 640 to 800."""
    recipe = load_recipe(f"table_4_10:{row}")
    assert recipe_task(recipe) is PanopticTask
    assert recipe.task is not None
    options = PanopticRecipe.model_validate(recipe.task.options)
    assert options.chosen() == "blendmask_panoptic"
    assert options.merge == MergeRecipe(confidence=0.2, overlap=0.4, stuff_area=4096)
    assert options.semantic_branch.levels == ("P2", "P3", "P4", "P5")
    assert options.blendmask.name == "56_4_14"
    assert options.blendmask.bottom == ProtoNetRecipe()
    training = recipe.fulltrain
    assert (training.iterations, training.steps) == (270_000, (180_000, 240_000))
    assert (training.short_sides[0], training.short_sides[-1]) == (640, 800)
    decoder = recipe_decoder(recipe.decoder, FcosDecoder(FcosDecoderRecipe()))
    with torch.device("meta"):
        model = PanopticTask.network(recipe, decoder, (64, 64)).model
    assert (model.things, model.stuff) == (80, 53)
    assert model.strides == (8, 16, 32, 64, 128)
    assert model.branch.stride == 4  # type: ignore[union-attr]
