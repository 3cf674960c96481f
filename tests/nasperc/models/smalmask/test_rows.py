"""Every variant of chapter 3 is a row of a recipe, and every row keeps the segmenters' contract."""

from __future__ import annotations

import math

import pytest
from printed_rows import printed, recipe_of, require_recipes, rows_of, small_backbone
from segmenter_contract import CLASSES, SegmenterContract

from nasperc.assembly.decoder_recipe import recipe_decoder
from nasperc.assembly.detector import build_decoder
from nasperc.models.instance_segmenter import InstanceSegmenter
from nasperc.models.smalmask.model import SmalMask
from nasperc.models.smalmask.preset import smalmask_preset
from nasperc.models.smalmask2.model import SmalMask2
from nasperc.recipe.root import Recipe
from nasperc.tasks.instances.models import InstancesRecipe
from search_spaces.fcos_decoder import FcosDecoder
from search_spaces.fcos_recipe import FcosDecoderRecipe

TABLES = tuple(f"3_{table}" for table in range(1, 9))
ROWS = rows_of(*TABLES)


def options_of(row: str) -> InstancesRecipe:
    task = recipe_of(row).task
    assert task is not None
    return InstancesRecipe.model_validate(task.options)


# One row for each model among them: tables repeat one another.
VARIANTS = (
    "table_3_1:Conv separate",
    "table_3_1:Conv shared",
    "table_3_1:DefConv separate",
    "table_3_1:DefConv shared",
    "table_3_1:RoIConv separate",
    "table_3_1:RoIPred separate",
    "table_3_1:RoIPred shared",
    "table_3_2:3x3",
    "table_3_2:7x7",
    "table_3_3:without",
    "table_3_3:random",
    "table_3_3:fix",
    "table_3_4:P3-P6,P6 L64",
    "table_3_4:P3,P3-P6 L64",
    "table_3_4:P3,P3-P6 7x7 L64",
    "table_3_4:P3,P3-P6 L128",
    "table_3_4:P3,P3-P6 L48",
    "table_3_5:BlurConv freeze",
    "table_3_6:SmalMask2 L96",
    "table_3_6:SmalMask2 L128",
    "table_3_6:SmalMask2 L64,128",
    "table_3_6:SmalMask2-RT L128",
    "table_3_6:SmalMask2-RT L64,128",
    "table_3_7:R-50",
    "table_3_7:R-101",
    "table_3_8:R-50",
)


def model_of(row: str) -> str:
    recipe, options = recipe_of(row), options_of(row)
    chosen = options.smalmask2 if options.chosen() == "smalmask2" else options.smalmask
    return f"{chosen!r} {recipe.decoder} {recipe.model.backbone.blur}"


def test_every_row_is_one_of_the_variants() -> None:
    assert {model_of(row) for row in ROWS} == {model_of(row) for row in VARIANTS}


class TestEveryRow(SegmenterContract):
    @pytest.fixture(params=VARIANTS)
    def variant(self, request: pytest.FixtureRequest) -> str:
        assert isinstance(request.param, str)
        return request.param

    def build(self, variant: str) -> InstanceSegmenter:
        recipe, options = recipe_of(variant), options_of(variant)
        backbone = small_backbone(recipe)
        # P7 is one pixel here, and a group of one channel would normalise it away.
        widths = {"fpn_width": 64, "head_width": 64}
        decoder = recipe_decoder(recipe.decoder.model_copy(update=widths), FcosDecoder(FcosDecoderRecipe()))
        preset = recipe.model.head_preset()
        if options.chosen() == "smalmask":
            # The sizes of the contract's objects are those of the common length.
            chosen = options.smalmask.model_copy(update={"canonical_length": None})
            parts = build_decoder(decoder, backbone.out, CLASSES, preset)  # type: ignore[arg-type]
            return SmalMask(backbone, parts["neck"], parts["head"], chosen)
        assert options.chosen() == "smalmask2"
        parts = build_decoder(decoder, backbone.out, CLASSES, preset)  # type: ignore[arg-type]
        return SmalMask2(backbone, parts["neck"], parts["head"], options.smalmask2)


@pytest.mark.parametrize("table", TABLES)
def test_a_table_has_a_recipe_for_each_row_that_is_not_quoted(table: str) -> None:
    require_recipes(table)


def test_the_predictors_and_their_towers() -> None:
    """Table 3.1."""
    names = {"Conv": "conv", "DefConv": "def_conv", "RoIConv": "roi_conv", "RoIPred": "roi_pred"}
    for row in printed("3_1"):
        chosen = options_of(f"table_3_1:{row['row']}").smalmask
        name, tower = str(row["row"]).split()
        assert (chosen.predictor, chosen.tower, chosen.kernel) == (names[name], tower, 5)
        assert chosen.tower_depth == 4


def test_rows_with_the_same_numbers_are_the_same_model() -> None:
    """Of 31.3, the model of all ablations: but for Table 3.5, whose own 30.8 is its note."""
    of_the_best = [
        f"table_{table}:{row['row']}"
        for table in ("3_1", "3_2", "3_3", "3_4")
        for row in printed(table)
        if row["ap"] == 31.3
    ]
    assert len(of_the_best) == 4
    assert len({model_of(row) for row in of_the_best}) == 1
    assert model_of("table_3_5:Conv freeze") == model_of(of_the_best[0])


def test_kernels_supervision_levels_and_lengths() -> None:
    """Tables 3.2 to 3.4."""
    kernels = {row.partition(":")[2]: options_of(row).smalmask.kernel for row in rows_of("3_2")}
    assert kernels == {"3x3": 3, "5x5": 5, "7x7": 7}
    supervised = {row.partition(":")[2]: options_of(row).smalmask.box_supervision for row in rows_of("3_3")}
    assert supervised == {
        "without": "predicted",
        "random": "random",
        "fix": "fix",
        "with": "ground_truth",
    }
    all_down, top_down = ("P3", "P3", "P4", "P5", "P6"), ("P3", "P4", "P5", "P6", "P6")
    for row in rows_of("3_4"):
        name, chosen = row.partition(":")[2], options_of(row).smalmask
        levels = {"P3-P7": None, "P3-P6,P6": top_down, "P3,P3-P6": all_down}[name.split()[0]]
        assert chosen.levels == levels
        assert chosen.kernel == (7 if "7x7" in name else 5)
        length = int(name.rpartition("L")[2])
        preset = smalmask_preset(recipe_of(row).model.head_preset(), chosen)
        bounds = [high for _, high in preset.sizes_of_interest]
        assert bounds == [length, 2 * length, 4 * length, 8 * length, math.inf]


def test_the_backbones() -> None:
    """Tables 3.5, 3.7 and 3.8."""
    for row in rows_of("3_5"):
        operator, norm = row.partition(":")[2].split()
        backbone = recipe_of(row).model.backbone
        assert (backbone.blur, backbone.frozen_bn) == (
            3 if operator == "BlurConv" else None,
            norm == "freeze",
        )
    found = {}
    for row in rows_of("3_7", "3_8"):
        backbone, chosen = recipe_of(row).model.backbone, options_of(row).smalmask2
        found[row] = (backbone.name, backbone.blur, chosen.kernel, chosen.canonical_lengths)
    assert found == {
        "table_3_7:R-50": ("resnet50", 3, 5, (64, 128)),
        "table_3_7:R-101": ("resnet101", 3, 7, (64, 128)),
        "table_3_8:R-50": ("resnet50", 3, 5, (64, 128)),
    }


def test_the_two_stage_models_have_the_poolers_of_their_names() -> None:
    """Table 3.6."""
    for row in rows_of("3_6"):
        name, _, lengths = row.partition(":")[2].partition(" L")
        recipe, options = recipe_of(row), options_of(row)
        assert options.chosen() == "smalmask2"
        assert options.smalmask2.canonical_lengths == tuple(map(float, lengths.split(",")))
        real_time = name == "SmalMask2-RT"
        assert (recipe.decoder.depth, recipe.decoder.merged_tower) == ((3, True) if real_time else (4, False))


def trained(recipe: Recipe) -> tuple[object, ...]:
    training = recipe.fulltrain
    return training.short_sides[0], training.short_sides[-1], training.max_long_side, training.test_short_side


def test_every_row_is_trained_as_the_chapter_says() -> None:
    """3.5: the 1x schedule of FCOS with a constant warm-up; two-stage models at several scales; 3x for main results."""
    for row in ROWS:
        recipe, (table, _, name) = recipe_of(row), row.partition(":")
        training = recipe.fulltrain
        assert (training.batch_size, training.learning_rate) == (16, 0.01)
        assert (training.warmup_kind, training.warmup_iterations) == ("constant", 1000)
        assert recipe.model.preset == "adelaidet"
        longer = 3 if table in ("table_3_7", "table_3_8") else 1
        assert (training.iterations, training.steps) == (longer * 90_000, (longer * 60_000, longer * 80_000))
        if "RT" in name or table == "table_3_8":
            assert trained(recipe) == (440, 550, 916, 550)
        elif table in ("table_3_6", "table_3_7"):
            assert trained(recipe) == (640, 800, 1333, 800)
        else:
            assert trained(recipe) == (800, 800, 1333, 800)
