"""The pages that show how something is added: their code runs as it stands there, by the commands that they name."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "nasperc"))

from top10_file import write_top10
from typed_command import nasperc

from nasperc.data.formats import open_dataset
from nasperc.data.synthetic import write_synthetic
from nasperc.recipe.reading import parse_recipe

DOCS = Path(__file__).parents[2] / "docs"
TINY = {
    "model": {"backbone": {"width_mult": 0.1}},
    "fulltrain": {
        "iterations": 2,
        "batch_size": 2,
        "short_sides": [64],
        "max_long_side": 64,
        "test_short_side": 64,
    },
}


def code_of(page: str) -> str:
    (block,) = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    assert isinstance(block, str)
    return block


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished search of detectors, in the folder that commands are typed in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NASPERC_PLUGINS", raising=False)
    data = write_synthetic(tmp_path / "data", images={"train": 4, "val": 2}, size=(64, 64), formats=("coco",))
    recipe = parse_recipe({"data": {"path": str(data)}, **TINY}, where="test")
    top10 = write_top10(
        tmp_path / "runs" / "search-001",
        recipe,
        stage="head",
        task="detection",
        classes=open_dataset(data, "train").classes,
        widths={"fpn": 32, "head": 32},
        rewards=(-1.0,),
    )
    return top10.parent


def test_a_task_of_a_page(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("presence.py").write_text(code_of("add_a_task.md"))
    typed = ("fulltrain", "--arch", run / "top10.json", "--task", "presence.py:Presence")
    code, out, err = nasperc(monkeypatch, capsys, *typed)
    assert code == 0, err
    assert "accuracy" in out
    row = run / "fulltrain-presence" / "rank01"
    metrics = json.loads((row / "metrics.json").read_text())["metrics"]["val"]
    # Nobody has named the program yet in a command that meets the checkpoint alone.
    monkeypatch.delenv("NASPERC_PLUGINS")
    evaluate = ("evaluate", row / "checkpoint.pt", "--data", "data", "--json")
    code, _, err = nasperc(monkeypatch, capsys, *evaluate)
    assert code == 2
    assert "NASPERC_PLUGINS" in err
    monkeypatch.setenv("NASPERC_PLUGINS", "presence.py")
    code, out, err = nasperc(monkeypatch, capsys, *evaluate)
    assert code == 0, err
    assert json.loads(out) == metrics
    # Typed again, nothing is trained again.
    before = (row / "checkpoint.pt").stat().st_mtime_ns
    code, _, err = nasperc(monkeypatch, capsys, *typed)
    assert code == 0, err
    assert (row / "checkpoint.pt").stat().st_mtime_ns == before


def test_a_model_of_a_page(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("plain_fcos.py").write_text(code_of("add_a_model.md"))
    typed = ("fulltrain", "--arch", run / "top10.json", "--task", "plain_fcos.py:Plain")
    code, _, err = nasperc(monkeypatch, capsys, *typed)
    assert code == 0, err
    folder = run / "fulltrain-plain_fcos"
    # The baseline is of the same model, which has nothing to learn of centerness.
    rows = sorted(path.parent for path in folder.glob("*/log.csv"))
    assert len(rows) == 2
    for row in rows:
        header, *lines = (row / "log.csv").read_text().splitlines()
        column = header.split(",").index("centerness")
        assert {float(line.split(",")[column]) for line in lines} == {0.0}
    checkpoint = folder / "rank01" / "checkpoint.pt"
    code, out, err = nasperc(monkeypatch, capsys, "evaluate", checkpoint, "--data", "data", "--json")
    assert code == 0, err
    metrics = json.loads((folder / "rank01" / "metrics.json").read_text())["metrics"]["val"]
    assert json.loads(out) == metrics
    image = next(Path("data").rglob("*.jpg"))
    code, _, err = nasperc(monkeypatch, capsys, "predict", checkpoint, image)
    assert code == 0, err
