import json
import os

import pytest

from nasperc.errors import InputError
from nasperc.export.architecture_file import read_architecture
from nasperc.plugins import NAMED, component_names, load_component
from nasperc.recipe.reading import load_recipe
from nasperc.search.run_folder import RunFolder
from nasperc.search.top10 import read_top10
from nasperc.tasks.detection.trained import read_decoder


def test_built_in_components_register_by_entry_point():
    assert {"fcos_decoder", "table"} <= set(component_names("space"))
    assert {"evolution", "ppo", "random", "surrogate", "tpe"} <= set(component_names("controller"))
    assert {"detection", "table"} <= set(component_names("proxy"))
    assert load_component("controller", "random").__name__ == "RandomController"


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(InputError, match="fcos_decoder"):
        load_component("space", "fcos_decodr")


def test_class_from_a_file(tmp_path):
    file = tmp_path / "my_space.py"
    file.write_text(
        "from pydantic import BaseModel\n\nclass Mine:\n    class Recipe(BaseModel):\n        pass\n"
    )
    assert load_component("space", f"{file}:Mine").__name__ == "Mine"


@pytest.mark.parametrize(
    ("content", "class_name", "message"),
    [
        (None, "Mine", "must exist"),
        ("1 / 0\n", "Mine", "ZeroDivisionError"),
        ("x = 1\n", "Mine", "define the class"),
        ("class Mine:\n    pass\n", "Mine", "pydantic model Recipe"),
    ],
)
def test_broken_plugin_files_are_told_apart(tmp_path, content, class_name, message):
    file = tmp_path / f"broken_{len(message)}.py"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InputError, match=message):
        load_component("space", f"{file}:{class_name}")


PROGRAM = """
from pathlib import Path
from search_spaces.table import TableSpace as Space

Path(__file__).with_name("was-run").touch()
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A plugin file that leaves a mark when it is run; nobody has named it."""
    monkeypatch.delenv(NAMED, raising=False)
    (tmp_path / "program.py").write_text(PROGRAM)
    return tmp_path / "program.py"


def test_a_file_from_elsewhere_runs_no_program(program, tmp_path):
    section = {"space": {"name": f"{program}:Space"}}
    run = tmp_path / "run"
    run.mkdir()
    (tmp_path / "r.yaml").write_text(json.dumps(section))
    (run / "recipe.yaml").write_text(json.dumps(section))
    entry = {"rank": 1, "id": 1, "stage": "s", "architecture": {}, "hash": "", "widths": {}, "seed": 0}
    entry |= {"reward": 0, "metrics": {}, "cost": {}, "seconds": 0, "status": "completed"}
    space = {"name": "table", "version": 1, "variant": "x"}
    top10 = {"format": "nasperc-top10/1", "space": space, "stage": "s", "task": "t", "recipe": section}
    top10 |= {"data": {}, "weights": {}, "search_cost_hours": 0, "entries": [entry]}
    (run / "top10.json").write_text(json.dumps(top10))
    architecture = {"space": f"{program}:Space", "version": 1, "variant": "x", "parts": {"row": [0]}}
    (tmp_path / "a.json").write_text(json.dumps(architecture))
    decoder = {"kind": "searched", "widths": {}, "architecture": architecture}
    for read in (
        lambda: load_recipe(str(tmp_path / "r.yaml")),
        lambda: RunFolder(run).read_recipe(),
        lambda: read_top10(run / "top10.json"),
        lambda: read_decoder({"decoder": decoder, **section}, where="checkpoint"),
        lambda: read_architecture(tmp_path / "a.json"),
    ):
        with pytest.raises(InputError, match=r"named by the user|registered name"):
            read()
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize("how", ["typed", "set", "environment"])
def test_a_program_that_its_user_names_is_run(program, tmp_path, monkeypatch, how):
    (tmp_path / "r.yaml").write_text(
        json.dumps({"space": {"name": f"{program}:Space", "file": "scores.csv"}})
    )
    name = f"{program}:Space"
    if how == "environment":
        monkeypatch.setenv(NAMED, f"/elsewhere.py{os.pathsep}{program}")
    overrides = [{"space": {"name": name}}] if how == "typed" else []
    settings = [f"space.name={name}"] if how == "set" else []
    recipe = load_recipe(str(tmp_path / "r.yaml"), overrides, settings)
    assert recipe.space.name == name
    assert (tmp_path / "was-run").exists()
