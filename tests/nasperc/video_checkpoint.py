"""Small networks for videos, and their checkpoints as full training writes them."""

import torch
from torch import nn

from nasperc.assembly.detector import Searched
from nasperc.assembly.recipe import ModelRecipe
from nasperc.assembly.segmenter import build_static, build_video
from nasperc.models.backbones.build import BackboneRecipe
from nasperc.recipe.root import ComponentSection
from nasperc.tasks.video.trained import describe_segmenter
from nasperc.training.checkpoint import save_checkpoint
from search_spaces.dynamic_cell import DynamicCell, DynamicCellRecipe

MODEL = ModelRecipe(backbone=BackboneRecipe(width_mult=0.1))
SECTION = ComponentSection(name="dynamic_cell", variant="4_layers")
# Every operation and every aggregation but the last, at one size and at two.
TOKENS = (*(1, 2, 0, 1, 0), *(3, 5, 2, 3, 1), *(0, 4, 4, 5, 2), *(7, 6, 5, 4, 3))
WIDTH = 8


def searched_cell():
    space = DynamicCell(DynamicCellRecipe(variant="4_layers"))
    return Searched(space, space.architecture({"cell": TOKENS}), {"cell": WIDTH})


def network(cell, classes, size=(64, 96), recipe=MODEL):
    """In evaluation mode, with the statistics of one batch: with made-up ones random features fade or explode."""
    torch.manual_seed(0)
    static = build_static(recipe, classes, load_weights=False)
    model = static if cell is None else build_video(recipe, cell, classes, static)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    frames = [torch.randn(2, 3, *size) for _ in range(2)]
    with torch.no_grad():
        model.train()(frames if cell is not None else torch.cat(frames))
    return model.eval()


def content(cell, classes):
    """What a checkpoint holds, and its network."""
    model = network(cell, len(classes))
    values = {
        **describe_segmenter(MODEL, cell, SECTION),
        "classes": list(classes),
        "normalisation": "tf",
        "step": 2,
        "finished": True,
        "model": model.state_dict(),
    }
    return values, model


def write_checkpoint(path, cell, classes):
    """The network of the checkpoint ``path``."""
    values, model = content(cell, classes)
    save_checkpoint(path, values)
    return model
