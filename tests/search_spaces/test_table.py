import numpy as np
import pytest

from nasperc.errors import InputError
from search_spaces.base import BuildContext
from search_spaces.table import TableRecipe, TableSpace


@pytest.fixture
def space(tmp_path):
    file = tmp_path / "table.csv"
    # (0, 0, *) is missing, and after (1, 1) only one choice is left.
    file.write_text("a,b,c,score,test\n0,1,x,1,10\n0,1,y,2,20\n1,0,x,3,30\n1,0,y,4,40\n1,1,y,5,50\n")
    return TableSpace(TableRecipe(file=file))


def test_allowed_are_the_choices_that_some_row_completes(space):
    assert space.allowed("row", ()) == (True, True)
    assert space.allowed("row", (0,)) == (False, True)
    assert space.allowed("row", (1,)) == (True, True)
    assert space.allowed("row", (1, 1)) == (False, True)


def test_samples_are_rows_and_all_are_found(space):
    rng = np.random.default_rng(0)
    assert {space.sample("row", rng) for _ in range(200)} == set(space.table.scores)


def test_scores_have_the_names_of_their_columns(space):
    assert space.scores(space.architecture({"row": (1, 0, 1)})) == {"score": 4.0, "test": 40.0}


def test_what_is_no_row_is_refused(space):
    with pytest.raises(InputError, match="token 1 of row"):
        space.architecture({"row": (0, 0, 0)})


def test_json_and_back(space):
    architecture = space.architecture({"row": (1, 1, 1)})
    assert space.from_dict(space.to_dict(architecture), where="test") == architecture


def test_another_table_is_another_variant(space, tmp_path):
    file = tmp_path / "other.csv"
    file.write_text("a,b,c,score\n0,1,x,1\n")
    assert TableSpace(TableRecipe(file=file)).variant != space.variant


def test_has_no_network(space):
    architecture = space.architecture({"row": (1, 1, 1)})
    with pytest.raises(InputError, match="table of scores"):
        space.build(architecture, (), {}, BuildContext(3))
    with pytest.raises(InputError, match="table of scores"):
        space.read_back({})


def test_is_drawn_as_its_choices(space):
    (panel,) = space.draw(space.architecture({"row": (1, 0, 1)})).panels
    assert [node.label for node in panel.nodes] == ["a = 1", "b = 0", "c = y"]
    assert len({node.column for node in panel.nodes}) == 3
