"""Every variant of chapter 4 is a row of a recipe, and every row keeps the segmenters' contract."""

from __future__ import annotations

import pytest
from printed_rows import printed, recipe_of, require_recipes, rows_of, small_backbone
from segmenter_contract import CLASSES, SegmenterContract

from nasperc.assembly.decoder_recipe import recipe_decoder
from nasperc.assembly.detector import build_decoder
from nasperc.models.blendmask.deeplab_bottom import DeepLabBottomRecipe
from nasperc.models.blendmask.model import BlendMask
from nasperc.models.blendmask.preset import blendmask_preset
from nasperc.models.blendmask.recipe import BlendMaskRecipe
from nasperc.recipe.root import Recipe
from search_spaces.fcos_decoder import FcosDecoder
from search_spaces.fcos_recipe import FcosDecoderRecipe

TABLES = tuple(f"4_{table}" for table in (1, 2, 3, 4, 5, 6, 7, 8, 9, 11))
ROWS = rows_of(*TABLES)


def blendmask_recipe(recipe: Recipe) -> BlendMaskRecipe:
    return BlendMaskRecipe.model_validate(recipe.task.options["blendmask"])


def narrow(recipe: BlendMaskRecipe) -> BlendMaskRecipe:
    """The same with few channels."""
    semantic = recipe.semantic and recipe.semantic.model_copy(update={"width": 8})
    bottom = recipe.bottom.model_copy(update={"width": 8})
    return recipe.model_copy(update={"bottom": bottom, "semantic": semantic})


# One row for each model among them: tables repeat one another, and narrow models do not differ in width.
VARIANTS = (
    "table_4_1:Weighted-sum",
    "table_4_1:Assembler",
    "table_4_1:Blender",
    "table_4_2:28_4_2",
    "table_4_2:28_4_7",
    "table_4_2:56_4_4",
    "table_4_2:56_4_7",
    "table_4_2:56_4_14",
    "table_4_3:56_1_7",
    "table_4_3:56_2_7",
    "table_4_3:56_8_7",
    "table_4_4:P3+P5 56_4_7",
    "table_4_4:P3+P5 56_4_14",
    "table_4_5:bilinear 56_4_7",
    "table_4_5:bilinear 56_4_14",
    "table_4_6:nearest 28_4_7",
    "table_4_6:nearest 56_4_14",
    "table_4_6:bilinear 28_4_7",
    "table_4_7:+semantic",
    "table_4_7:+s/4",
    "table_4_7:Proto-P3",
    "table_4_7:Proto-FPN",
    "table_4_8:R-50* 36 epochs",
    "table_4_8:R-101* dcni3 60 epochs",
    "table_4_9:R-101",
)


def model_of(row: str) -> str:
    recipe = recipe_of(row)
    deformable = recipe.model.backbone.deformable_stages
    return f"{narrow(blendmask_recipe(recipe))} {recipe.decoder} {recipe.model.preset_overrides} {deformable}"


def test_every_row_is_one_of_the_variants() -> None:
    assert {model_of(row) for row in ROWS} == {model_of(row) for row in VARIANTS}


class TestEveryRow(SegmenterContract):
    @pytest.fixture(params=VARIANTS)
    def variant(self, request: pytest.FixtureRequest) -> str:
        assert isinstance(request.param, str)
        return request.param

    def build(self, variant: str) -> BlendMask:
        recipe = recipe_of(variant)
        backbone = small_backbone(recipe)
        # P7 is one pixel here, and a group of one channel would normalise it away.
        widths = {"fpn_width": 32, "head_width": 64}
        decoder = recipe_decoder(recipe.decoder.model_copy(update=widths), FcosDecoder(FcosDecoderRecipe()))
        preset = blendmask_preset(recipe.model.head_preset())
        parts = build_decoder(decoder, backbone.out, CLASSES, preset)  # type: ignore[arg-type]
        return BlendMask(backbone, parts["neck"], parts["head"], narrow(blendmask_recipe(recipe)))


@pytest.mark.parametrize("table", TABLES)
def test_a_table_has_a_recipe_for_each_row_that_is_not_quoted(table: str) -> None:
    require_recipes(table)


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ("table_4_1:Weighted-sum", "28_4_1"),
        ("table_4_1:Assembler", "28_16_4"),
        ("table_4_1:Blender", "28_4_4"),
        *(
            (f"table_4_2:{name}", name)
            for name in ("28_4_2", "28_4_4", "28_4_7", "56_4_4", "56_4_7", "56_4_14")
        ),
        *((f"table_4_3:56_{bases}_7", f"56_{bases}_7") for bases in (1, 2, 4, 8)),
        *((f"table_4_4:{inputs} 56_4_{m}", f"56_4_{m}") for inputs in ("C3+C5", "P3+P5") for m in (7, 14)),
        *((f"table_4_5:{mode} 56_4_{m}", f"56_4_{m}") for mode in ("nearest", "bilinear") for m in (7, 14)),
        *(
            (f"table_4_6:{mode} {name}", name)
            for mode in ("nearest", "bilinear")
            for name in ("28_4_7", "56_4_14")
        ),
        ("table_4_7:DeepLabV3+", "56_4_14"),
        ("table_4_8:R-50 12 epochs", "56_4_14"),
        ("table_4_9:R-50", "56_4_14"),
        ("table_4_11:R-101+dcni3", "56_4_14"),
    ],
)
def test_the_configurations_of_the_tables(row: str, name: str) -> None:
    assert blendmask_recipe(recipe_of(row)).name == name


def test_the_first_ablations_are_on_the_backbone() -> None:
    """4.3.3: C3 and C5, attentions by nearest, bases bilinear; 4.4: width 128."""
    for table in (1, 2, 3):
        for row in printed(f"4_{table}"):
            chosen = blendmask_recipe(recipe_of(f"table_4_{table}:{row['row']}"))
            assert chosen.bottom == DeepLabBottomRecipe(inputs=("C3", "C5"), width=128)
            assert (chosen.bottom_sampling, chosen.top_interpolation) == ("bilinear", "nearest")
            assert chosen.semantic is None


def test_other_bottoms_and_the_semantic_loss() -> None:
    """Table 4.7."""
    rows = {str(row["row"]): blendmask_recipe(recipe_of(f"table_4_7:{row['row']}")) for row in printed("4_7")}
    assert [row for row, chosen in rows.items() if chosen.semantic is None] == ["DeepLabV3+"]
    assert {chosen.semantic.weight for chosen in rows.values() if chosen.semantic} == {0.3}
    bottoms = {
        row: (chosen.bottom.name, chosen.bottom.inputs, chosen.bottom.width) for row, chosen in rows.items()
    }
    assert bottoms == {
        "DeepLabV3+": ("deeplab_v3_plus", ("P3", "P5"), 128),
        "+semantic": ("deeplab_v3_plus", ("P3", "P5"), 128),
        "+128": ("deeplab_v3_plus", ("P3", "P5"), 256),
        "+s/4": ("deeplab_v3_plus", ("P2", "P5"), 256),
        "Proto-P3": ("protonet", ("P3",), 256),
        "Proto-FPN": ("protonet", ("P3", "P4", "P5"), 128),
    }


def test_rows_named_after_a_sampling_or_an_input_have_it() -> None:
    for table, key in ((5, "top_interpolation"), (6, "bottom_sampling")):
        for row in printed(f"4_{table}"):
            chosen = blendmask_recipe(recipe_of(f"table_4_{table}:{row['row']}"))
            assert getattr(chosen, key) == str(row["row"]).split()[0]
            assert chosen.bottom.inputs == ("P3", "P5")
    for row in printed("4_4"):
        chosen = blendmask_recipe(recipe_of(f"table_4_4:{row['row']}"))
        assert "+".join(chosen.bottom.inputs) == str(row["row"]).split()[0]


def test_every_row_is_trained_as_the_chapter_says() -> None:
    """4.4: the 1x schedule of FCOS with a constant warm-up; 3x for the main results; five times 12 epochs."""
    for row in ROWS:
        recipe = recipe_of(row)
        training, table = recipe.fulltrain, row.partition(":")[0]
        assert (training.batch_size, training.learning_rate, training.warmup_kind) == (16, 0.01, "constant")
        assert training.warmup_iterations == 1000
        assert recipe.model.preset == "adelaidet"
        if table not in ("table_4_8", "table_4_9", "table_4_11") or row.endswith(" 12 epochs"):
            assert (training.iterations, training.steps) == (90_000, (60_000, 80_000))
            assert (training.short_sides, training.max_long_side) == ((800,), 1333)
        elif row.endswith(("dcni3", "60 epochs")):
            assert training.iterations == 5 * 90_000
        else:
            assert (training.iterations, training.steps) == (270_000, (180_000, 240_000))
            assert (training.short_sides[0], training.short_sides[-1]) in ((640, 800), (440, 550))


def test_the_real_time_variant() -> None:
    """4.4.2: three convolutions, one tower, no P7, Proto-FPN of four convolutions and width 128."""
    for row in ("table_4_9:R-50", "table_4_9:R-101"):
        recipe = recipe_of(row)
        assert (recipe.decoder.depth, recipe.decoder.merged_tower, recipe.decoder.ends) == (3, True, (3, 6))
        assert len(recipe.model.head_preset().sizes_of_interest) == 4
        bottom = blendmask_recipe(recipe).bottom
        assert (bottom.name, bottom.inputs, bottom.width) == ("protonet", ("P3", "P4", "P5"), 128)
        assert bottom.convolutions == 4
        assert recipe.fulltrain.test_short_side == 550


def test_the_deformable_backbone_has_an_interval_of_three() -> None:
    for row in ("table_4_8:R-101* dcni3 60 epochs", "table_4_11:R-101+dcni3"):
        backbone = recipe_of(row).model.backbone
        assert (backbone.name, backbone.deformable_interval) == ("resnet101", 3)
        assert backbone.deformable_stages == (3, 4, 5)
