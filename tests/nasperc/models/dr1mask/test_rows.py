"""Every instance segmenter of chapter 5 is a row of a recipe, and every row keeps the segmenters' contract."""

from __future__ import annotations

import pytest
from printed_rows import printed, recipe_of, require_recipes, rows_of, small_backbone
from segmenter_contract import CLASSES, SegmenterContract

from nasperc.assembly.decoder_recipe import recipe_decoder
from nasperc.assembly.detector import build_decoder
from nasperc.models.blendmask.preset import blendmask_preset
from nasperc.models.dr1mask.model import DR1Mask
from nasperc.models.dr1mask.recipe import DR1MaskRecipe
from nasperc.recipe.root import Recipe
from search_spaces.fcos_decoder import FcosDecoder
from search_spaces.fcos_recipe import FcosDecoderRecipe

TABLES = ("5_1", "5_3", "5_4", "5_8")
ROWS = rows_of(*TABLES)


def dr1mask_recipe(recipe: Recipe) -> DR1MaskRecipe:
    assert recipe.task is not None
    return DR1MaskRecipe.model_validate(recipe.task.options["dr1mask"])


def narrow(recipe: DR1MaskRecipe) -> DR1MaskRecipe:
    """The same with few channels."""
    semantic = recipe.semantic and recipe.semantic.model_copy(update={"width": 8})
    return recipe.model_copy(update={"width": 8, "semantic": semantic})


# One row for each model among them: tables repeat one another.
VARIANTS = (
    "table_5_1:Baseline",
    "table_5_1:w/ A",
    "table_5_1:w/ B",
    "table_5_1:w/ A, B",
    "table_5_3:FPN",
    "table_5_3:class tower",
    "table_5_4:Full",
    "table_5_4:Factored",
    "table_5_8:R-101*",
)


def model_of(row: str) -> str:
    recipe = recipe_of(row)
    return f"{dr1mask_recipe(recipe)} {recipe.decoder} {recipe.model.backbone.deformable_stages}"


def test_every_row_is_one_of_the_variants() -> None:
    assert {model_of(row) for row in ROWS} == {model_of(row) for row in VARIANTS}


class TestEveryRow(SegmenterContract):
    @pytest.fixture(params=VARIANTS)
    def variant(self, request: pytest.FixtureRequest) -> str:
        assert isinstance(request.param, str)
        return request.param

    def build(self, variant: str) -> DR1Mask:
        recipe = recipe_of(variant)
        return self.of(narrow(dr1mask_recipe(recipe)), recipe)

    def of(self, options: DR1MaskRecipe, recipe: Recipe) -> DR1Mask:
        backbone = small_backbone(recipe)
        # P7 is one pixel here, and a group of one channel would normalise it away.
        widths = {"fpn_width": 32, "head_width": 64}
        decoder = recipe_decoder(recipe.decoder.model_copy(update=widths), FcosDecoder(FcosDecoderRecipe()))
        preset = blendmask_preset(recipe.model.head_preset())
        parts = build_decoder(decoder, backbone.out, CLASSES, preset)  # type: ignore[arg-type]
        return DR1Mask(backbone, parts["neck"], parts["head"], options)


class TestTheOtherPaddings(TestEveryRow):
    """Table 5.5, as instance segmenters."""

    @pytest.fixture(params=["32", "128"])
    def variant(self, request: pytest.FixtureRequest) -> str:
        assert isinstance(request.param, str)
        return request.param

    def build(self, variant: str) -> DR1Mask:
        recipe = recipe_of("table_5_4:Vector")
        update = {"divisor": int(variant), "upsampling": "resized"}
        return self.of(narrow(dr1mask_recipe(recipe)).model_copy(update=update), recipe)


@pytest.mark.parametrize("table", TABLES)
def test_a_table_has_a_recipe_for_each_row_that_is_not_quoted(table: str) -> None:
    require_recipes(table)


def test_the_factors_and_their_places() -> None:
    """Tables 5.1 and 5.3, which have the vector (5.5.2) and a width of 32 (5.5.1)."""
    chosen = {row: dr1mask_recipe(recipe_of(row)) for row in rows_of("5_1", "5_3")}
    assert {(each.embedding, each.width) for each in chosen.values()} == {("vector", 32)}
    places = {row.partition(":")[2]: (each.factors, each.context_on) for row, each in chosen.items()}
    assert places == {
        "Baseline": ("neither", "box_tower"),
        "w/ A": ("A", "box_tower"),
        "w/ B": ("B", "box_tower"),
        "w/ A, B": ("both", "box_tower"),
        "None": ("neither", "box_tower"),
        "FPN": ("both", "neck"),
        "class tower": ("both", "cls_tower"),
        "box tower": ("both", "box_tower"),
    }


def test_rows_with_the_same_numbers_are_the_same_model() -> None:
    numbers: dict[tuple[object, ...], set[str]] = {}
    for table in ("5_1", "5_3", "5_4"):
        for row in printed(table):
            key = (row["ap"], row["ap50"], row["ap75"])
            numbers.setdefault(key, set()).add(model_of(f"table_{table}:{row['row']}"))
    assert {len(models) for models in numbers.values()} == {1}


def test_the_modules_and_how_much_they_predict() -> None:
    """5.4.2: 784 values of a full attention, 16 of a factored one beside a projection from 32 channels to 4."""
    rows = {str(row["row"]): dr1mask_recipe(recipe_of(f"table_5_4:{row['row']}")) for row in printed("5_4")}
    assert {row: each.embedding_channels for row, each in rows.items()} == {
        "Vector": 32,
        "Full": 784,
        "Factored": 32 * 4 + 16,
    }


def test_every_row_is_trained_as_the_chapter_says() -> None:
    """5.5.1: the 1x schedule of BlendMask with a linear warm-up, short sides from [640, 800]; 5.5.3: 3x."""
    for row in ROWS:
        recipe = recipe_of(row)
        training = recipe.fulltrain
        assert (training.batch_size, training.learning_rate) == (16, 0.01)
        assert (training.warmup_kind, training.warmup_iterations) == ("linear", 1000)
        assert (training.short_sides[0], training.short_sides[-1]) == (640, 800)
        assert (training.max_long_side, training.test_short_side) == (1333, 800)
        longer = 3 if row.startswith("table_5_8") else 1
        assert (training.iterations, training.steps) == (longer * 90_000, (longer * 60_000, longer * 80_000))
        assert recipe.model.preset == "adelaidet"
        chosen = dr1mask_recipe(recipe)
        assert (chosen.divisor, chosen.upsampling, chosen.region) == (4, "aligned", 56)
        assert chosen.semantic is not None
        assert (chosen.semantic.weight, chosen.semantic.level) == (0.3, "P3")


def test_the_main_results() -> None:
    backbones = {}
    for row in rows_of("5_8"):
        recipe = recipe_of(row)
        chosen = dr1mask_recipe(recipe)
        assert (chosen.embedding, chosen.width, chosen.factors) == ("factored", 32, "both")
        backbone = recipe.model.backbone
        backbones[row.partition(":")[2]] = (backbone.name, backbone.deformable_stages)
    assert backbones == {
        "R-50": ("resnet50", ()),
        "R-101": ("resnet101", ()),
        "R-101*": ("resnet101", (3, 4, 5)),
    }
