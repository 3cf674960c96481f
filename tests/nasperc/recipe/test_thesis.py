import json
from importlib import resources

import pytest

from nasperc.recipe.reading import load_recipe, recipe_names
from nasperc.recipe.thesis import printed_rows, printed_table

FILES = [
    file.name.removesuffix("_thesis.json")
    for file in resources.files("experiments").iterdir()
    if file.name.endswith("_thesis.json")
]


def test_there_are_figures_of_chapters_4_and_7():
    assert {"table_4_1", "table_4_11", "table_7_2"} <= set(FILES)


@pytest.mark.parametrize("recipe", FILES)
def test_every_row_that_is_not_quoted_is_one_of_the_recipe(recipe):
    content = json.loads((resources.files("experiments") / f"{recipe}_thesis.json").read_text())
    rows = printed_rows(recipe)
    assert len(rows) == len(content)
    for row, values in zip(rows, content, strict=True):
        assert row.figures == {key: value for key, value in values.items() if not isinstance(value, str)}
        # In percent.
        assert row.figures["pq" if recipe == "table_4_10" else "ap"] > 1
        assert row.quoted == ("source" in values)
        assert row.note == values.get("note")
        if not row.quoted:
            assert load_recipe(f"{recipe}:{row.name}").origin == f"{recipe}:{row.name}"
            table = printed_table(f"{recipe}:{row.name}")
            assert (table.own, table.rows) == (row.name, rows)
            assert table.about.startswith(f"Table {recipe.removeprefix('table_').replace('_', '.')} - ")


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "demo",
        "table_4_9",
        "table_4_9:YOLACT R-101, 550 x 550",
        "table_4_9:R-18",
        "../experiments/table_4_9:R-50",
        "table_4_9_thesis:R-50",
        "x" * 5000,
        *(name for name in recipe_names() if name not in FILES),
    ],
)
def test_what_is_no_row_of_a_table_has_none(origin):
    assert printed_table(origin) is None
