"""What checkpoints of all tasks have in common when they are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import nn

from nasperc.assembly.detector import Searched
from nasperc.data.image_rules import ImageRules
from nasperc.errors import InputError, shown
from nasperc.limits import require_names
from nasperc.plugins import load_component, require_named_plugins
from nasperc.recipe.root import ComponentSection
from nasperc.torch_files import not_finite
from nasperc.training.checkpoint import load_checkpoint
from search_spaces.base import WIDEST

_TRAIN_AGAIN = "It was edited, or written by another version: train again."


def load_task_checkpoint(path: Path, task: str) -> dict[str, Any]:
    """The content of a checkpoint that says it is of ``task``.

    Raises:
        InputError: as :func:`load_checkpoint`; another task.
    """
    content = load_checkpoint(path, ("task",))
    if content["task"] != task:
        raise InputError(
            f"this needs a checkpoint of the task {task}",
            value=content["task"],
            where=path,
            repair="Name another checkpoint.",
        )
    return content


@contextmanager
def described_network(path: Path) -> Iterator[None]:
    """Context in which a network is built from a checkpoint's description and gets its weights.

    Raises:
        InputError: whatever did not fit, in one line.
    """
    try:
        yield
    except InputError:
        raise
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "a whole section"
        raise InputError(
            f"a checkpoint must describe its network by valid recipe keys: {key}: {first['msg']}",
            value=shown(first["input"]),
            where=path,
            repair=_TRAIN_AGAIN,
        ) from error
    # Whatever type stands where another is expected.
    except (AttributeError, LookupError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            "a checkpoint's weights must fit the network that it describes",
            value=(str(error) or type(error).__name__).splitlines()[0],
            where=path,
            repair=_TRAIN_AGAIN,
        ) from error


def read_classes(values: Sequence[Any], path: Path) -> tuple[str, ...]:
    """The names of the classes of a checkpoint.

    Raises:
        InputError: too many, or one of too great a length.
        TypeError, ValueError: they are no names.
    """
    names = tuple(values)
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError("classes that are no names")
    require_names(names, where=path)
    return names


def load_weights(model: nn.Module, content: Mapping[str, Any], path: Path) -> None:
    """Give a network the weights of a checkpoint's content.

    Raises:
        InputError: they do not fit; one is NaN or infinite.
    """
    with described_network(path):
        model.load_state_dict(content["model"])
    require_finite_weights(model, path)


def require_finite_weights(model: nn.Module, path: Path) -> None:
    """Check the weights that a network was given by the checkpoint ``path``.

    Raises:
        InputError: one is NaN or infinite.
    """
    name = not_finite(model.state_dict())
    if name is not None:
        raise InputError(
            "the weights of a network must be finite numbers",
            value=f"NaN or infinity in {name}",
            where=path,
            repair="The training diverged, or the file was edited: train again.",
        )


def describe_searched(searched: Searched) -> dict[str, Any]:
    """Plain values of which :func:`read_searched` makes the same part again."""
    architecture = searched.space.to_dict(searched.architecture)
    return {"architecture": architecture, "widths": dict(searched.widths)}


def read_searched(values: Mapping[str, Any], section: Any, where: str) -> Searched:
    """A searched part as :func:`describe_searched` described it.

    Args:
        values: the description.
        section: the recipe section of its space, as plain values.
        where: the source, in errors.

    Raises:
        InputError: the space cannot be loaded, or the architecture is not one of its own.
        KeyError, TypeError, ValidationError, ValueError: it is no such description.
    """
    space_section = ComponentSection.model_validate(section)
    require_named_plugins({"space": {"name": space_section.name}}, where=where)
    component = load_component("space", space_section.name)
    space = component(component.Recipe.model_validate(space_section.options))
    return Searched(space, space.from_dict(values["architecture"], where=where), read_widths(values))


def read_image_rules(content: Mapping[str, Any]) -> ImageRules:
    """How images were read; of a checkpoint that does not say so, as all were before there was a choice.

    Raises:
        ValidationError: it says something else.
    """
    return ImageRules.model_validate(content.get("images", {}))


def read_widths(values: Mapping[str, Any]) -> dict[str, int]:
    """Channels by part, none of them absurd.

    Raises:
        KeyError, TypeError, ValueError: there are no such widths.
    """
    widths = {str(part): int(width) for part, width in values["widths"].items()}
    if not all(0 < width <= WIDEST for width in widths.values()):
        raise ValueError(f"widths {widths}")
    return widths
