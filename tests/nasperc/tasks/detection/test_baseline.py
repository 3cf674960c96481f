import pytest

from nasperc.assembly.detector import Baseline, build_detector
from nasperc.assembly.recipe import ModelRecipe
from nasperc.evaluation.cost import measure_cost
from nasperc.tasks.detection.baseline import baseline_costs, choose_baseline, cost_size


@pytest.fixture(scope="module")
def costs():
    return baseline_costs(ModelRecipe(backbone={"width_mult": 0.25}), 3, (96, 128))


@pytest.mark.parametrize(
    "choice", [Baseline(32, 32, 1), Baseline(96, 192, 3), Baseline(160, 160, 4), Baseline(256, 512, 2)]
)
def test_costs_are_those_of_the_whole_detector(costs, choice):
    model = build_detector(ModelRecipe(backbone={"width_mult": 0.25}), choice, 3)
    assert costs[choice] == measure_cost(model, (96, 128)).flops


@pytest.mark.parametrize("kind", ["deform-fpn-fcos", "fpn-retinanet"])
def test_costs_of_the_other_baselines(kind):
    recipe = ModelRecipe(backbone={"width_mult": 0.1})
    costs = baseline_costs(recipe, 3, (64, 96), Baseline(kind=kind, anchor_scale=0.5))
    choice = Baseline(96, 160, 3, kind, 0.5)
    assert costs[choice] == measure_cost(build_detector(recipe, choice, 3), (64, 96)).flops


def test_grid(costs):
    assert {choice.depth for choice in costs} == {1, 2, 3, 4}
    assert all(choice.fpn_width % 32 == 0 and choice.head_width % 32 == 0 for choice in costs)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.35, 0.8, 0.99])
def test_choice_against_brute_force(costs, share):
    values = sorted(costs.values())
    target = values[int(share * (len(values) - 1))] * 1.003
    chosen = costs[choose_baseline(target, costs)]
    best = min((flops for flops in values if flops >= 0.95 * target), key=lambda flops: abs(flops - target))
    assert chosen >= 0.95 * target
    assert abs(chosen - target) <= abs(best - target) + 0.05 * target


def test_not_below_95_percent_even_where_that_is_closer():
    costs = {Baseline(32, 32, 4): 94, Baseline(64, 64, 4): 109}
    assert choose_baseline(100, costs) == Baseline(64, 64, 4)
    assert choose_baseline(98, costs) == Baseline(32, 32, 4)


def test_where_nothing_is_large_enough_the_largest():
    assert choose_baseline(1000, {Baseline(32, 32, 1): 90, Baseline(64, 64, 1): 300}) == Baseline(64, 64, 1)


def test_of_equally_close_ones_the_deepest_then_the_most_even():
    costs = {
        Baseline(512, 512, 1): 100.0,
        Baseline(32, 128, 3): 101.0,
        Baseline(64, 64, 3): 103.0,
        Baseline(64, 64, 4): 108.0,
    }
    assert choose_baseline(100, costs) == Baseline(64, 64, 3)


def test_cost_size():
    assert cost_size(800, 32) == (800, 1088)
    assert cost_size(480, 32) == (480, 672)
    assert cost_size(480, 4) == (480, 656)
    assert cost_size(480, 128) == (512, 768)
