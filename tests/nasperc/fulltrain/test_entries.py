import pytest

from nasperc.errors import InputError
from nasperc.fulltrain.entries import parse_width, select, training_recipe
from nasperc.search.top10 import read_top10


@pytest.mark.parametrize(
    ("text", "widths"),
    [
        ("128", {"fpn": 128, "head": 128}),
        ("256", {"fpn": 256, "head": 256}),
        ("128-256", {"fpn": 128, "head": 256}),
    ],
)
def test_width(text, widths):
    assert parse_width(text, ("fpn", "head")) == widths


@pytest.mark.parametrize(
    "text", ["", "wide", "100", "0", "-128", "128-", "128-256-512", "128.0", "٣٢", "128-16"]
)
def test_bad_width(text):
    with pytest.raises(InputError, match="--width"):
        parse_width(text, ("fpn", "head"))


def test_select():
    assert select("abc", None) == ("a", "b", "c")
    assert select("abc", 2) == ("a", "b")
    for top in (0, 4, -1):
        with pytest.raises(InputError, match="between 1 and the number of entries, 3"):
            select("abc", top)


def test_recipe_with_what_was_typed(top10):
    read = read_top10(top10)
    recipe = training_recipe(
        read, [{"fulltrain": {"batch_size": 3}}, {"seed": 4}], ["fulltrain.iterations=9"]
    )
    assert (recipe.fulltrain.batch_size, recipe.fulltrain.iterations, recipe.seed) == (3, 9, 4)
    assert recipe.fulltrain.short_sides == (64,)
    assert read.recipe.fulltrain.iterations == 2


def test_bad_settings(top10):
    read = read_top10(top10)
    with pytest.raises(InputError, match="Did you mean iterations"):
        training_recipe(read, settings=["fulltrain.iteration=9"])
    with pytest.raises(InputError, match="space of full training"):
        training_recipe(read, settings=["space.variant=thesis"])
