from __future__ import annotations

import json
from importlib import resources

import pytest
import torch
import yaml

from nasperc.assembly.detector import Baseline, build_detector
from nasperc.errors import InputError
from nasperc.evaluation.cost import measure_cost
from nasperc.models.fcos.model import FCOS
from nasperc.recipe.reading import load_recipe
from nasperc.report.cost import TableRow, decoder_name, model_cost, thesis_table

SMALL = [{"cost": {"size": [64, 96], "classes": 3}, "model": {"backbone": {"width_mult": 0.25}}}]


@pytest.fixture(scope="module")
def table() -> list[TableRow]:
    return list(thesis_table("7.2"))


def test_every_row_of_table_7_2_comes_out(table: list[TableRow]) -> None:
    for cost, thesis in table:
        flops, params = cost.flops / 1e9, cost.params_trainable / 1e6
        assert flops == pytest.approx(thesis["flops_g"], rel=0.002), cost.name
        rounds_to_it = abs(params - thesis["params_m"]) <= 0.05
        assert rounds_to_it or params == pytest.approx(thesis["params_m"], rel=0.002), cost.name


def test_the_rows_are_the_thesis_s_in_its_order(table: list[TableRow]) -> None:
    names = [row.cost.name for row in table]
    assert len(names) == len(set(names)) == 17
    assert (names[0], names[8], names[13]) == (
        "FPN-RetinaNet@256 MobileNetV2",
        "NAS-FCOS@128-256 R-50",
        "FPN-FCOS@256 X-64x4d-101",
    )
    recipe = yaml.safe_load((resources.files("experiments") / "table_7_2.yaml").read_text())
    assert list(recipe["rows"]) == names


@pytest.mark.parametrize(("divisor", "size"), [(4, (64, 96)), (32, (64, 96)), (128, (128, 128))])
def test_an_image_is_counted_as_the_network_pads_it(
    monkeypatch: pytest.MonkeyPatch, divisor: int, size: tuple[int, int]
) -> None:
    monkeypatch.setattr(FCOS, "divisor", divisor)
    recipe = load_recipe("default", SMALL)
    counted = model_cost(recipe, Baseline(32, 32, 1), latency=True)
    assert counted.size == size
    assert counted.flops == measure_cost(build_detector(recipe.model, Baseline(32, 32, 1), 3), size).flops


def test_the_improvements_cost_nothing(table: list[TableRow]) -> None:
    by_name = {row.cost.name: row.cost for row in table}
    for decoder in ("FPN-FCOS@256", "NAS-FCOS@128-256"):
        plain, improved = (by_name[f"{decoder}{text} X-64x4d-101"] for text in ("", " w/improvements"))
        assert (plain.flops, plain.params_trainable) == (improved.flops, improved.params_trainable)


def test_a_row_as_plain_values(table: list[TableRow]) -> None:
    values = json.loads(json.dumps(table[9].to_dict()))
    assert (values["decoder"], values["backbone"]) == ("NAS-FCOS@256", "R-50")
    assert (values["thesis_flops_g"], values["thesis_params_m"], values["thesis_ap"]) == (189.6, 38.4, 39.8)
    assert values["flops_g"] == pytest.approx(189.557, abs=1e-3)
    assert values["params_m"] == pytest.approx(38.358, abs=1e-3)
    assert values["params_total_m"] > values["params_m"]


def test_the_long_schedule_belongs_to_the_deep_backbones() -> None:
    assert load_recipe("table_7_2:NAS-FCOS@256 R-101").fulltrain.iterations == 180_000
    assert load_recipe("table_7_2:NAS-FCOS@256 R-50").fulltrain.iterations == 90_000
    improved = load_recipe("table_7_2:FPN-FCOS@256 w/improvements X-64x4d-101")
    assert improved.model.head_preset().name == "adelaidet"


def test_the_recipe_s_model_is_counted() -> None:
    recipe = load_recipe("default", SMALL, ["decoder.head_width=128", "decoder.depth=2"])
    counted = model_cost(recipe)
    model = build_detector(recipe.model, Baseline(256, 128, 2), 3)
    assert counted.flops == measure_cost(model, (64, 96)).flops
    assert counted.name == "FPN-FCOS@256-128 mobilenet_v2"
    assert counted.latency is None


def test_adapters_that_nothing_reads_count_only_where_they_run() -> None:
    reference = ["decoder={name: searched, architecture: nas_fcos_reference, fpn_width: 32, head_width: 32}"]
    built, as_released = (
        model_cost(load_recipe("default", SMALL, [*reference, f"cost.unused_adapters={value}"]))
        for value in ("false", "true")
    )
    # The adapter of C2 on 16 x 24 pixels: 8 channels (24 * 0.25, in multiples of 8) to 32, BatchNorm, ReLU.
    assert as_released.flops - built.flops == 16 * 24 * 32 * (8 + 2 + 1)
    assert built.decoder == "fcos_decoder@32"


def test_latency_is_measured_on_request() -> None:
    threads = torch.get_num_threads()
    recipe = load_recipe("default", SMALL, ["decoder={fpn_width: 32, head_width: 32, depth: 1}"])
    latency = model_cost(recipe, latency=True).latency
    assert latency is not None
    assert 0 < latency.fastest_s <= latency.median_s <= latency.slowest_s
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("decoder={name: searched, architecture: nowhere}", "readable JSON"),
        ("decoder={name: searched, architecture: nowhere.json}", "readable JSON"),
        ("decoder={name: searched}", "has an architecture"),
        ("decoder={architecture: nas_fcos_reference}", "has an architecture"),
        ("decoder={fpn_width: 100}", "multiple of 32"),
        ("cost={size: [100, 100]}", "multiple of 32"),
    ],
)
def test_bad_sections(setting: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model_cost(load_recipe("default", settings=[setting]))


def test_other_tables_are_refused() -> None:
    with pytest.raises(InputError, match=r"one of 7\.2"):
        list(thesis_table("7.9"))


def test_names() -> None:
    assert decoder_name(Baseline(128, 256, 4, "deform-fpn-fcos")) == "DeformFPN-FCOS@128-256"
    assert decoder_name(Baseline()) == "FPN-FCOS@256"
