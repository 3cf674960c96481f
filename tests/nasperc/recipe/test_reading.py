from pathlib import Path

import pytest
import yaml

from nasperc.errors import InputError
from nasperc.recipe.reading import load_recipe, merge, parse_recipe, recipe_names
from nasperc.recipe.root import Recipe


@pytest.mark.parametrize("name", recipe_names())
def test_every_package_recipe_is_valid_and_survives_a_round_trip(name):
    recipe = load_recipe(name)
    assert recipe.description
    assert parse_recipe(recipe.to_dict(), where="round trip") == recipe


@pytest.mark.parametrize(
    ("name", "mode", "controller", "reward"),
    [
        ("table_7_4:head", "head", "ppo", "loss"),
        ("table_7_4:fpn", "fpn", "ppo", "loss"),
        ("table_7_4:progressive", "progressive", "ppo", "loss"),
        ("table_7_4:joint", "joint", "ppo", "loss"),
        ("table_7_4:random", "progressive", "random", "loss"),
        ("figure_7_9:loss", "fpn", "ppo", "loss"),
        ("figure_7_9:ap", "fpn", "ppo", "ap"),
    ],
)
def test_the_rows_of_the_tables_and_figures(name, mode, controller, reward):
    recipe = load_recipe(name)
    assert recipe.space.options["mode"] == mode
    assert recipe.controller.name == controller
    assert recipe.proxy.options["reward"] == reward
    assert recipe.search.candidates == 2800


def test_the_first_recipe_of_the_package_is_kept_as_the_origin(tmp_path):
    assert load_recipe("demo").origin == "demo"
    assert load_recipe("table_4_9:R-50", settings=["seed=3"]).origin == "table_4_9:R-50"
    # Not those that it is based on.
    assert load_recipe("table_4_11:R-101+dcni3").origin == "table_4_11:R-101+dcni3"
    (tmp_path / "mine.yaml").write_text(
        "base: 'table_4_9:R-50'\nrows: {fast: {fulltrain: {iterations: 10}}}\n"
    )
    (tmp_path / "next.yaml").write_text("base: mine.yaml\nseed: 3\n")
    for name in ("mine.yaml", "mine.yaml:fast", "next.yaml"):
        assert load_recipe(str(tmp_path / name)).origin == "table_4_9:R-50"
    (tmp_path / "own.yaml").write_text("seed: 3\n")
    assert load_recipe(str(tmp_path / "own.yaml")).origin == ""
    assert parse_recipe({}, where="an older file").origin == ""


def test_video_recipes_hold_the_numbers_of_the_thesis():
    """Sections 6.4.1 and 6.4.2, appendix A.1."""
    camvid, cityscapes = load_recipe("camvid_thesis"), load_recipe("cityscapes_thesis")
    assert (camvid.space.options["variant"], cityscapes.space.options["variant"]) == ("5_layers", "4_layers")
    for recipe, search in (
        (camvid, {"sequence_length": 3, "epochs": 20, "pad": 400, "crop": [600, 600], "long_side": None}),
        (
            cityscapes,
            {"sequence_length": 2, "epochs": 10, "pad": None, "crop": [512, 512], "long_side": 1024},
        ),
    ):
        fixed = {"batch_size": 48, "learning_rate": 8e-3, "meta_val": 0.1}
        assert (search | fixed).items() <= recipe.proxy.options.items()
        assert recipe.controller.options["learning_rate"] == 1e-4
        static = recipe.video.static
        assert (static.encoder_learning_rate, static.decoder_learning_rate) == (5e-2, 1e-2)
        assert (static.auxiliary_weight, static.scales) == (0.3, (0.5, 2.0))
        assert (recipe.video.cell.learning_rate, recipe.video.end_to_end.cell_learning_rate) == (8e-3, 4e-3)
        assert recipe.video.end_to_end.static_learning_rate == 5e-4
    sizes = [
        (each.video.static.epochs, each.video.static.batch_size, each.video.static.crop, each.video.crop)
        for each in (camvid, cityscapes)
    ]
    assert sizes == [(2000, 32, (600, 600), (600, 600)), (1000, 28, (800, 800), (769, 769))]
    assert (camvid.video.cell.epochs, camvid.video.end_to_end.epochs) == (10, 100)
    assert (cityscapes.video.cell.epochs, cityscapes.video.end_to_end.epochs) == (200, 200)


def test_paper_recipe_holds_the_numbers_of_the_thesis():
    """Section 7.4.1 (proxy task, budgets, full training) and 6.4.1 (controller)."""
    recipe = load_recipe("paper")
    proxy, controller = recipe.proxy.options, recipe.controller.options
    assert (proxy["short_side"], proxy["crop"], proxy["batch_size"], proxy["iterations"]) == (
        384,
        384,
        200,
        300,
    )
    assert (proxy["learning_rate"], proxy["polyak"]) == (8e-4, 0.9)
    assert (controller["layers"], controller["hidden"], controller["learning_rate"]) == (2, 100, 1e-4)
    assert recipe.search.candidates == 2800 + 600
    assert (recipe.search.select, proxy["head_stage"]) == ("fulltrain:20", "cached_fpn")
    full = recipe.fulltrain
    assert (full.batch_size, full.iterations, full.learning_rate, full.steps) == (
        16,
        90_000,
        0.01,
        (60_000, 80_000),
    )
    assert (full.test_short_side, full.max_long_side) == (800, 1333)


def test_command_line_wins_over_the_file_and_set_over_all():
    recipe = load_recipe("demo", [{"seed": 3, "search": {"workers": 1}}], ["seed=7", "proxy.iterations=5"])
    assert (recipe.seed, recipe.search.workers, recipe.proxy.options["iterations"]) == (7, 1, 5)


def test_another_component_drops_the_keys_of_the_first():
    recipe = load_recipe("demo", [{"controller": {"name": "random"}}])
    assert recipe.controller.name == "random"
    assert "learning_rate" not in recipe.controller.options


def test_base_and_rows(tmp_path):
    file = tmp_path / "table.yaml"
    file.write_text(yaml.safe_dump({"base": "demo", "seed": 1, "rows": {"a": {"search": {"budget": 3}}}}))
    assert load_recipe(str(file)).seed == 1
    assert load_recipe(f"{file}:a").search.candidates == 3
    with pytest.raises(InputError, match="Rows: a"):
        load_recipe(f"{file}:b")


def test_a_base_file_lies_beside_the_one_that_names_it(tmp_path):
    (tmp_path / "common.yaml").write_text("base: demo\nseed: 5\n")
    (tmp_path / "mine.yaml").write_text("base: common.yaml\n")
    assert load_recipe(str(tmp_path / "mine.yaml")).seed == 5


def test_circle_of_bases_is_refused(tmp_path):
    file = tmp_path / "loop.yaml"
    file.write_text(f"base: {file}\n")
    with pytest.raises(InputError, match="circle"):
        load_recipe(str(file))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("proxy.iteration=5", "iterations"),
        ("serch.workers=2", "search"),
        ("search.budget=12x", "a budget is"),
        ("model.preset=nas", "nas_fcos"),
        ("model.backbone.name=resnet5000", "mobilenet_v2"),
        ("model.preset_overrides={nms: 1}", "preset override"),
        ("search.limits.flops=-1", "search.limits.flops"),
        ("search.limits.flops=2.5X", "search.limits.flops"),
        ("search.limits.watts=3", "flops"),
        ("search.cost_target.weight=0.1", "both --cost-weight and --cost-target"),
        ("search.cost_target={weight: -0.1, target: 1G}", "search.cost_target.weight"),
        ("search.cost_target={weight: 0.1, target: 0}", "search.cost_target.target"),
        ("search.cost_target={cost: watts, weight: 0.1, target: 1G}", "search.cost_target.cost"),
        ("seed", "key=value"),
        ("search.workers=0", "search.workers"),
        ("controller.name=pppo", "ppo"),
        ("space.name=fcos", "fcos_decoder"),
    ],
)
def test_bad_settings_name_the_key_and_the_repair(setting, message):
    with pytest.raises(InputError, match=message):
        load_recipe("demo", settings=[setting])


def test_costs_as_they_are_typed_in_yaml_and_survive_a_round_trip():
    settings = ["search.limits={flops: 2.5e9, params: 3M}", "search.cost_target={weight: 0.2, target: 2G}"]
    recipe = load_recipe("demo", settings=settings)
    assert recipe.search.limits.amounts == {"flops": 2.5e9, "params": 3e6}
    assert recipe.search.cost_target is not None
    assert recipe.search.cost_target.model_dump() == {"cost": "flops", "weight": 0.2, "target": 2e9}
    assert parse_recipe(yaml.safe_load(yaml.safe_dump(recipe.to_dict())), where="test") == recipe


@pytest.mark.parametrize("setting", ["search.limits.flops=1", "search.cost_target={weight: 1, target: 1}"])
def test_a_proxy_task_without_costs_says_so(tmp_path, setting):
    (tmp_path / "scores.csv").write_text("tokens,score\n0,1\n1,2\n")
    overrides = [
        {"space": {"name": "table", "file": str(tmp_path / "scores.csv")}, "proxy": {"name": "table"}}
    ]
    with pytest.raises(InputError, match=r"the proxy task table knows \(it knows none\), but got flops"):
        load_recipe("table", overrides, [setting])


def test_rows_are_mappings(tmp_path):
    file = tmp_path / "rows.yaml"
    file.write_text("rows: [a, b]\n")
    with pytest.raises(InputError, match="mappings by name"):
        load_recipe(str(file))


@pytest.mark.parametrize("content", ["a: [1", "- 1\n", "\x00"])
def test_broken_files_are_refused(tmp_path, content):
    file = tmp_path / "bad.yaml"
    file.write_text(content)
    with pytest.raises(InputError, match="YAML"):
        load_recipe(str(file))


def test_missing_recipes_are_refused():
    with pytest.raises(InputError, match="demo"):
        load_recipe("no_such_recipe")
    with pytest.raises(InputError, match="readable"):
        load_recipe(str(Path("nowhere") / "x.yaml"))


def test_merge_keeps_what_is_not_overridden():
    assert merge({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}}) == {"a": {"b": 1, "c": 3}}


@pytest.mark.parametrize(
    ("budget", "count", "seconds"), [("200", 200, None), ("90s", None, 90), ("1.5h", None, 5400)]
)
def test_budgets(budget, count, seconds):
    search = Recipe(search={"budget": budget}).search
    assert (search.candidates, search.seconds) == (count, seconds)


@pytest.mark.parametrize("base", ["../pyproject", "x" * 5000])
def test_a_base_is_one_of_the_package_or_a_file(tmp_path, base):
    (tmp_path / "r.yaml").write_text(f"base: {base}")
    with pytest.raises(InputError, match=r"package recipe or a \.yaml file"):
        load_recipe(str(tmp_path / "r.yaml"))


def test_a_component_that_cannot_be_loaded_names_the_recipe_that_asks_for_it():
    with pytest.raises(InputError, match=r"got nothing \(in recipe key proxy\.name, runs/one/top10\.json\)"):
        parse_recipe(
            {"space": {"name": "fcos_decoder"}, "proxy": {"name": "nothing"}}, where="runs/one/top10.json"
        )
