"""A checkpoint of full training as a network for videos: evaluation, prediction and export need no other file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from nasperc.assembly.detector import Searched
from nasperc.assembly.recipe import ModelRecipe
from nasperc.assembly.segmenter import build_static, build_video
from nasperc.data.image_rules import ImageRules
from nasperc.data.normalisation import Normalisation, get_normalisation
from nasperc.data.sample import SEMANTIC_IGNORE
from nasperc.fulltrain.checkpoint_content import (
    describe_searched,
    described_network,
    load_task_checkpoint,
    read_classes,
    read_image_rules,
    read_searched,
    require_finite_weights,
)
from nasperc.models.segmenter import Segmenter
from nasperc.models.video_segmenter import VideoSegmenter
from nasperc.recipe.root import ComponentSection
from nasperc.training.checkpoint import require_keys

TASK = "video_segmentation"
_KEYS = ("segmenter", "cell", "space", "classes", "normalisation", "model", "step", "finished")
# Of classifiers that serve training only, in a per-frame network and in that of a video.
_AUXILIARY = ("auxiliary.", "static.auxiliary.")


@dataclass(frozen=True)
class TrainedSegmenter:
    """``model`` in evaluation mode; ``finished`` False: the schedule had not ended when it was written.

    ``searched``, the cell, is None for a per-frame network, whose ``model`` is a :class:`Segmenter`. ``images``: how
    the frames that it was trained on were read.
    """

    model: VideoSegmenter | Segmenter
    searched: Searched | None
    recipe: ModelRecipe
    classes: tuple[str, ...]
    normalisation: Normalisation
    images: ImageRules
    step: int
    finished: bool


def describe_segmenter(recipe: ModelRecipe, cell: Searched | None, space: ComponentSection) -> dict[str, Any]:
    """What a checkpoint holds besides the weights so that :func:`load_segmenter` can build the network.

    Args:
        recipe: of the static network.
        cell: the dynamic cell; None: a per-frame network.
        space: the recipe section of the search space that ``cell`` is from.
    """
    return {
        "task": TASK,
        "segmenter": recipe.model_dump(mode="json"),
        "cell": None if cell is None else describe_searched(cell),
        "space": space.model_dump(mode="json"),
    }


def load_segmenter(path: Path) -> TrainedSegmenter:
    """Read a checkpoint and build its network, on the CPU and in evaluation mode.

    Raises:
        InputError: unreadable, cut short, of another format or task, or not consistent in itself.
    """
    return read_segmenter(load_task_checkpoint(path, TASK), path)


def read_segmenter(content: Mapping[str, Any], path: Path) -> TrainedSegmenter:
    """The network of a checkpoint's content; ``path`` names it in errors.

    Raises:
        InputError: as :func:`load_segmenter`.
    """
    require_keys(content, _KEYS, path)
    with described_network(path):
        recipe = ModelRecipe.model_validate(content["segmenter"])
        classes = read_classes(content["classes"], path)
        if not 0 < len(classes) <= SEMANTIC_IGNORE:
            raise ValueError(f"{len(classes)} classes")
        cell = None
        if content["cell"] is not None:
            cell = read_searched(content["cell"], content["space"], str(path))
        static = build_static(recipe, len(classes), load_weights=False)
        model = static if cell is None else build_video(recipe, cell, len(classes), static)
        model.load_state_dict(_without_auxiliary(content["model"]))
        require_finite_weights(model, path)
        normalisation = get_normalisation(content["normalisation"])
        images = read_image_rules(content)
        step, finished = int(content["step"]), bool(content["finished"])
    return TrainedSegmenter(model.eval(), cell, recipe, classes, normalisation, images, step, finished)


def _without_auxiliary(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if not name.startswith(_AUXILIARY)}
