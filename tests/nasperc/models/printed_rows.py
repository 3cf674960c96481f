"""The rows of the thesis's tables of segmenters, as recipes and as they are printed; small networks of theirs."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources

from torch import nn

from nasperc.models.backbones.mobilenet_v2 import MobileNetV2
from nasperc.models.backbones.resnet import ResNet, ResNetShape
from nasperc.recipe.reading import load_recipe
from nasperc.recipe.root import Recipe

recipe_of = cache(load_recipe)


def printed(table: str) -> list[dict[str, object]]:
    """The rows of a table, e.g. ``4_1``, as the thesis has them, other people's too."""
    file = resources.files("experiments") / f"table_{table}_thesis.json"
    rows: list[dict[str, object]] = json.loads(file.read_text(encoding="utf-8"))
    return rows


def rows_of(*tables: str) -> list[str]:
    """The recipes of the rows that the thesis trained."""
    return [f"table_{table}:{row['row']}" for table in tables for row in printed(table) if "row" in row]


def require_recipes(table: str) -> None:
    """Each row is trained by a recipe, or is other people's and says whose."""
    for row in printed(table):
        assert ("row" in row) != ("method" in row)
        if "method" in row:
            assert "quoted in the thesis's Table" in str(row["source"])
        else:
            recipe_of(f"table_{table}:{row['row']}")


def small_backbone(recipe: Recipe) -> nn.Module:
    """With few channels, deformable or blurred where the recipe's is."""
    backbone = recipe.model.backbone
    if backbone.deformable_stages:
        return ResNet(
            ResNetShape((1, 1, 4, 1)),
            frozen_bn=False,
            deformable_stages=backbone.deformable_stages,
            deformable_interval=backbone.deformable_interval,
        )
    return MobileNetV2(width_mult=0.25, frozen_bn=False, blur=backbone.blur)
