from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nasperc.cli import cost
from nasperc.cli.main import app
from nasperc.errors import InputError
from nasperc.report.cost import thesis_table

REFERENCE = Path(__file__).parents[3] / "experiments" / "nas_fcos_reference.json"


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["cost", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_an_architecture_on_a_backbone_at_a_size() -> None:
    values = json.loads(
        run("--arch", REFERENCE, "--width", "32-64", "--backbone", "resnet18", "--size", "64x96", "--json")
    )
    assert values["name"] == "fcos_decoder@32-64 resnet18"
    assert values["size"] == [64, 96]
    assert values["params_total_m"] == values["params_m"] > 11
    assert "latency_ms" not in values
    # Width and backbone are the ones asked for: the same decoder elsewhere costs something else.
    assert values["flops_g"] < json.loads(run("--size", "64x96", "--json"))["flops_g"]


def test_latency_on_request() -> None:
    values = json.loads(run("--width", 32, "--size", "64x64", "--classes", 3, "--json", "--latency"))
    assert values["latency_ms"] > 0
    assert values["latency"]["runs"] == 10
    assert values["classes"] == 3


def test_the_model_as_a_table() -> None:
    out = run("--size", "64x64", "--set", "model.backbone.width_mult=0.25", "--width", "64")
    assert "FPN-FCOS@64 mobilenet_v2, 64 x 64, 80 classes" in out
    assert "activations" in out


def test_the_table_of_the_thesis(monkeypatch: pytest.MonkeyPatch) -> None:
    # The first rows; all of them are counted in the test of the report.
    monkeypatch.setattr(
        cost, "thesis_table", lambda *args, **kwargs: islice(thesis_table(*args, **kwargs), 2)
    )
    lines = [line.split() for line in run("--table", "7.2").splitlines() if "MobileNetV2" in line]
    assert [line[0] for line in lines] == ["FPN-RetinaNet@256", "FPN-FCOS@256"]
    assert lines[0][1:] == ["MobileNetV2", "133.39", "133.4", "-0.01", "11.325", "11.3", "+0.22"]
    rows = json.loads(run("--table", "7.2", "--json"))
    assert rows[1]["name"] == "FPN-FCOS@256 MobileNetV2"
    assert (rows[1]["thesis_flops_g"], rows[1]["thesis_params_m"]) == (105.4, 9.8)
    assert rows[1]["flops_g"] == pytest.approx(105.345, abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--table", "7.1"], "one of 7.2"),
        (["--table", "7.2", "--width", "128"], "fixes its models"),
        (["--size", "800"], "HxW"),
        (["--size", "800x1000"], "multiples of 32"),
        (["--width", "100"], "multiple of 32"),
        (["--backbone", "vgg"], "model.backbone.name"),
        (["--arch", "nowhere.json"], "readable"),
        (["--recipe", "table_7_2:FPN-FCOS@256 R-18"], "a row must be one of"),
        (["--backbone", "resnet50", "--set", "model.backbone.width_mult=2"], "width_mult is a key of"),
    ],
)
def test_bad_input(arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(*arguments)
