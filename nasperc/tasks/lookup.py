"""Tasks by name: of a recipe, as typed, of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nasperc.errors import InputError
from nasperc.plugins import component_names, is_plugin_file, load_component, require_named_plugins
from nasperc.recipe.root import Recipe
from nasperc.tasks.base import Task
from nasperc.tasks.trained import Trained
from nasperc.training.checkpoint import load_checkpoint

# In a checkpoint: the plugin file whose class its task is.
PLUGIN = "task_plugin"


def recipe_task(recipe: Recipe) -> type[Task]:
    """The task that a recipe trains in full: the one of its section ``task``, else the one that its proxy task names.

    Raises:
        InputError: there is neither, or it cannot be loaded.
    """
    task = own_task(recipe)
    if task is None:
        raise InputError(
            "what is trained in full needs a task",
            value=f"the proxy task {recipe.proxy.name}, which names none",
            where="recipe key proxy.name",
            repair=f"Name one with --task: {', '.join(model_names())}.",
        )
    return task


def own_task(recipe: Recipe) -> type[Task] | None:
    """As :func:`recipe_task`; None: there is neither.

    Raises:
        InputError: it cannot be loaded, or has no such model.
    """
    if recipe.task is not None:
        task, model = _load(recipe.task.name), recipe.task.options.get("model")
        if model is not None and model not in task.models:
            raise InputError(
                f"the model of the task {recipe.task.name} must be one of {', '.join(task.models)}",
                value=model,
                where="recipe key task.model",
                repair="Choose one of them, or leave it out.",
            )
        return task
    named: str | None = load_component("proxy", recipe.proxy.name).fulltrain
    return None if named is None else _load(named)


def task_section(typed: str) -> dict[str, Any]:
    """The recipe section ``task`` that ``--task`` stands for: a task, or a model of one.

    Raises:
        InputError: there is no such one.
    """
    for name in component_names("task"):
        task = _load(name)
        if typed in task.models:
            return {"name": name, "model": typed}
    if typed in component_names("task") or is_plugin_file(typed):
        return {"name": typed}
    raise InputError(
        f"a task must be one of {', '.join(model_names())}",
        value=typed,
        where="--task",
        repair="Choose one of them, or leave it out.",
    )


def model_names() -> list[str]:
    """Everything that ``--task`` may name but for plugin files."""
    names = {model for name in component_names("task") for model in _load(name).models}
    return sorted(names | set(component_names("task")))


def load_trained(path: Path) -> Trained:
    """What a checkpoint of full training holds, by the task that it names; on the CPU and in evaluation mode.

    Raises:
        InputError: unreadable, cut short, of an unknown task, or not consistent in itself.
    """
    content = load_checkpoint(path, ("task",))
    named, plugin = content["task"], content.get(PLUGIN)
    if isinstance(plugin, str):
        require_named_plugins({"task": {"name": plugin}}, where=str(path))
        return _load(plugin).read(content, path)
    for name in component_names("task"):
        task = _load(name)
        if isinstance(named, str) and named in task.models:
            return task.read(content, path)
    known = [model for name in component_names("task") for model in _load(name).models]
    raise InputError(
        f"the task of a checkpoint must be one of {', '.join(known)}",
        value=named,
        where=path,
        repair="It was edited, or written by another version or a plugin that is not installed: train again.",
    )


def _load(name: str) -> type[Task]:
    task: type[Task] = load_component("task", name)
    return task
