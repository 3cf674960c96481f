"""What a found decoder cannot offer is refused while the recipe is validated, not when the network is built."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from nasperc.cli import main as cli
from nasperc.errors import InputError
from nasperc.fulltrain.run import fulltrain
from nasperc.fulltrain.selection import FullTrainingSelector
from nasperc.recipe.reading import parse_recipe

# Choices of the model, and what is said of them.
NO_P2 = (
    {"bottom": {"name": "protonet", "inputs": ["P2", "P3"]}},
    r"but got P2 .*Choose of C2, .*P3, P4, P5, P6, P7",
)
TWO_TOWERS = ({"top_layer_on": "merged_tower"}, "a head with two .*Choose box_tower or cls_tower")
NO_SUCH_LEVEL = ({"semantic": {"level": "P8"}}, r"but got P8 .*semantic\.level.*Choose of .*P7")


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


@pytest.mark.parametrize(("chosen", "message"), [NO_P2, TWO_TOWERS, NO_SUCH_LEVEL])
def test_choices_that_do_not_fit_are_refused_before_data_are_opened(
    top10: Path, tmp_path: Path, chosen: dict[str, Any], message: str
) -> None:
    before = files(tmp_path)
    # Of data that are not there whoever looked for them would say so; of none, the synthetic ones would be written.
    for path in (str(tmp_path / "nowhere"), None):
        typed = {"task": {"name": "instances", "blendmask": chosen}, "data": {"path": path}}
        with pytest.raises(InputError, match=message):
            fulltrain(top10, overrides=[typed])
    assert files(tmp_path) == before


def test_other_choices_of_the_same_keys_get_as_far_as_the_data(top10: Path, tmp_path: Path) -> None:
    chosen = {"bottom": {"name": "protonet", "inputs": ["P3", "P5"]}, "top_layer_on": "cls_tower"}
    typed = {"task": {"name": "instances", "blendmask": chosen}, "data": {"path": str(tmp_path / "nowhere")}}
    with pytest.raises(InputError, match="nowhere"):
        fulltrain(top10, overrides=[typed])


def test_a_baseline_that_does_not_fit_is_refused_before_the_entries_are_trained(
    top10: Path, tmp_path: Path
) -> None:
    before = files(tmp_path)
    overrides = [{"baselines": ["fpn-fcos", "fpn-retinanet"]}]
    with pytest.raises(InputError, match="needs an FCOS head, but got fpn-retinanet"):
        fulltrain(top10, task="instances", overrides=overrides)
    assert files(tmp_path) == before


def test_the_command(
    top10: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(top10.parent)
    typed = ["--task", "blendmask", "--set", "task.blendmask.top_layer_on=merged_tower"]
    monkeypatch.setattr(sys, "argv", ["nasperc", "fulltrain", "--arch", str(top10), *typed])
    with pytest.raises(SystemExit) as exit:
        cli.main()
    assert exit.value.code == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "a head with two" in error
    assert "Choose box_tower or cls_tower" in error
    assert "Traceback" not in error
    assert files(top10.parent) == before


@pytest.mark.parametrize(("chosen", "message"), [NO_P2, TWO_TOWERS])
def test_a_search_that_would_select_by_such_a_network_does_not_begin(
    tmp_path: Path, chosen: dict[str, Any], message: str
) -> None:
    section = {"name": "instances", "blendmask": chosen}
    document = {"task": section, "data": {"path": str(tmp_path / "nowhere")}}
    selector = FullTrainingSelector(Console())
    with pytest.raises(InputError, match=message):
        selector.check(parse_recipe(document, where="test"), tmp_path / "prepared")
    assert files(tmp_path) == []
