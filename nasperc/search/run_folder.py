"""What lies in the folder of a run, and where runs are found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from controllers.service.record import JOURNAL
from nasperc.errors import InputError
from nasperc.plain_files import read_bounded
from nasperc.plain_yaml import MOST_YAML_BYTES, parse_yaml
from nasperc.plugins import require_named_plugins
from nasperc.recipe.reading import parse_recipe
from nasperc.recipe.root import Recipe
from nasperc.whole_files import refuse_link, write_whole

RUNS = Path("runs")


@dataclass(frozen=True)
class RunFolder:
    """Resolved recipe, journal, ``top10.json``, ``pareto.json``, TensorBoard events; while it runs, files of Ray."""

    path: Path

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.yaml"

    @property
    def journal(self) -> Path:
        return self.path / JOURNAL

    @property
    def top10(self) -> Path:
        return self.path / "top10.json"

    @property
    def pareto(self) -> Path:
        return self.path / "pareto.json"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def ray(self) -> Path:
        return self.path / "ray"

    @property
    def prepared(self) -> Path:
        """Data, fine-tuned weights and caches: beside the runs, shared by them."""
        return self.path.parent / "prepared"

    @property
    def driver_lock(self) -> Path:
        """Held by the command that drives the run."""
        return self.path / "driver.lock"

    def refuse_links(self) -> None:
        """Check that what a search writes into without replacing it whole lies in this folder.

        Raises:
            InputError: one of these files or folders is a link.
        """
        written = (self.journal, self.tensorboard, self.ray, *self.path.glob("select-*"))
        for path in written:
            refuse_link(path)

    def create(self, recipe: Recipe) -> None:
        """Keep the resolved recipe in the folder, which is made where there is none. A search that runs holds the
        driver's lock meanwhile."""
        self.path.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(resolve_paths(recipe).to_dict(), sort_keys=False, allow_unicode=True)
        write_whole(self.recipe, text)

    def read_recipe(self) -> Recipe:
        """The resolved recipe of the run.

        Raises:
            InputError: no run there; the recipe was edited into something invalid.
        """
        try:
            document = parse_yaml(read_bounded(self.recipe, MOST_YAML_BYTES).decode())
        except OSError as error:
            raise InputError(
                "a run folder must hold recipe.yaml",
                value=error.strerror,
                where=self.path,
                repair="Name the folder of a search run (nasperc runs lists them).",
            ) from error
        except ValueError as error:
            raise InputError(
                "a recipe must be YAML of plain values",
                value=error,
                where=self.recipe,
                repair="Restore the file.",
            ) from error
        if not isinstance(document, dict):
            raise InputError(
                "a recipe must be a YAML mapping",
                value=type(document).__name__,
                where=self.recipe,
                repair="Restore the file.",
            )
        require_named_plugins(document, where=str(self.recipe))
        return parse_recipe(document, where=str(self.recipe))


def list_runs(root: Path = RUNS) -> list[Path]:
    """Search runs under ``root``, the one that was written to last comes first."""
    runs = [path for path in root.iterdir() if RunFolder(path).recipe.is_file()] if root.is_dir() else []
    return sorted(runs, key=_last_written, reverse=True)


def _last_written(path: Path) -> tuple[float, str]:
    folder = RunFolder(path)
    written = folder.journal if folder.journal.is_file() else folder.recipe
    return written.stat().st_mtime, path.name


def resolve_paths(recipe: Recipe) -> Recipe:
    """The recipe with absolute paths: workers and a later ``--resume`` may stand in another folder.

    And with what the backbone's weights file says of itself, which must hold where that file is no more.

    Raises:
        InputError: the weights file has to be read for that, and cannot be.
    """
    document: dict[str, Any] = _absolute(recipe)
    document["model"]["backbone"] = _absolute(recipe.model.backbone.resolved())
    for kind in ("space", "controller", "proxy"):
        name = document[kind]["name"]
        if ".py:" in name:
            file, _, class_name = name.rpartition(":")
            document[kind]["name"] = f"{Path(file).resolve()}:{class_name}"
    return parse_recipe(document, where="the resolved recipe")


def _absolute(value: Any) -> Any:
    """Plain values of nested recipe models, every path made absolute."""
    if isinstance(value, BaseModel):
        fields = {name: getattr(value, name) for name in type(value).model_fields}
        return _absolute({**fields, **(value.model_extra or {})})
    if isinstance(value, Path):
        return str(value.resolve())
    if isinstance(value, dict):
        return {key: _absolute(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_absolute(item) for item in value]
    return value
