"""A checkpoint of full training as a detector: evaluation, prediction and export need no other file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasperc.assembly.detector import BASELINE_NAMES, DEEPEST, Baseline, Decoder, Searched, build_detector
from nasperc.assembly.recipe import ModelRecipe
from nasperc.data.normalisation import Normalisation, get_normalisation
from nasperc.errors import InputError
from nasperc.models.detector import Detector
from nasperc.plugins import load_component, require_named_plugins
from nasperc.search.recipe import ComponentSection
from nasperc.training.checkpoint import load_checkpoint
from nasperc.training.recipe import TrainingRecipe
from search_spaces.base import WIDEST

_DESCRIPTION = ("task", "detector", "decoder", "space", "training", "classes", "normalisation")
_KEYS = (*_DESCRIPTION, "model", "step", "finished")


@dataclass(frozen=True)
class TrainedDetector:
    """``model`` in evaluation mode; ``finished`` False: the schedule had not ended when it was written."""

    model: Detector
    decoder: Decoder
    recipe: ModelRecipe
    training: TrainingRecipe
    classes: tuple[str, ...]
    normalisation: Normalisation
    step: int
    finished: bool


def describe(recipe: ModelRecipe, decoder: Decoder, space: ComponentSection) -> dict[str, Any]:
    """What a checkpoint holds besides the weights so that :func:`load_detector` can build the network.

    Args:
        recipe: of the model.
        decoder: baseline or searched.
        space: the recipe section of the search space that ``decoder`` is from.
    """
    values: dict[str, Any]
    if isinstance(decoder, Baseline):
        widths = {"fpn": decoder.fpn_width, "head": decoder.head_width}
        values = {"kind": decoder.kind.replace("-", "_"), "widths": widths, "depth": decoder.depth}
        if decoder.kind == "fpn-retinanet":
            values["anchor_scale"] = decoder.anchor_scale
    else:
        architecture = decoder.space.to_dict(decoder.architecture)
        values = {"kind": "searched", "architecture": architecture, "widths": dict(decoder.widths)}
    return {
        "task": "fcos",
        "detector": recipe.model_dump(mode="json"),
        "decoder": values,
        "space": space.model_dump(mode="json"),
    }


def load_detector(path: Path) -> TrainedDetector:
    """Read a checkpoint and build its detector, on the CPU and in evaluation mode.

    Raises:
        InputError: unreadable, cut short, of another format or task, or not consistent in itself.
    """
    content = load_checkpoint(path, _KEYS)
    try:
        recipe = ModelRecipe.model_validate(content["detector"])
        decoder = read_decoder(content, where=str(path))
        training = TrainingRecipe.model_validate(content["training"])
        classes = tuple(str(name) for name in content["classes"])
        model = build_detector(recipe, decoder, len(classes), load_weights=False)
        model.load_state_dict(content["model"])
        normalisation = get_normalisation(content["normalisation"])
        step, finished = int(content["step"]), bool(content["finished"])
    except InputError:
        raise
    # Whatever type stands where another is expected; pydantic's ValidationError is a ValueError.
    except (AttributeError, LookupError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            "a checkpoint's weights must fit the network that it describes",
            value=(str(error) or type(error).__name__).splitlines()[0],
            where=path,
            repair="It was edited, or written by another version: train again.",
        ) from error
    return TrainedDetector(model.eval(), decoder, recipe, training, classes, normalisation, step, finished)


def read_decoder(description: Mapping[str, Any], where: str) -> Decoder:
    """The decoder that :func:`describe` described; ``where`` names the source in errors.

    Raises:
        InputError: the space cannot be loaded, or the architecture is not one of its own.
        KeyError, TypeError, ValidationError: it is no such description.
    """
    values = description["decoder"]
    widths = {str(part): int(width) for part, width in values["widths"].items()}
    if not all(0 < width <= WIDEST for width in widths.values()):
        raise ValueError(f"widths {widths}")
    for kind in BASELINE_NAMES:
        if values["kind"] == kind.replace("-", "_"):
            scale, depth = float(values.get("anchor_scale", 1.0)), int(values["depth"])
            if not 0 <= depth <= DEEPEST:
                raise ValueError(f"a depth of {depth}")
            return Baseline(widths["fpn"], widths["head"], depth, kind, scale)
    section = ComponentSection.model_validate(description["space"])
    require_named_plugins({"space": {"name": section.name}}, where=where)
    component = load_component("space", section.name)
    space = component(component.Recipe.model_validate(section.options))
    return Searched(space, space.from_dict(values["architecture"], where=where), widths)
