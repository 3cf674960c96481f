import pytest

from nasperc.errors import InputError
from nasperc.recipe.reading import load_recipe, parse_recipe
from nasperc.training.schedule import poly_factor
from nasperc.training.segmentation_recipe import CellPhase, StaticTrainingRecipe


def test_iterations_of_the_thesis_on_camvid():
    """A.1: 2000 epochs of 367 images in batches of 32. 6.4.2: 10 epochs of 357 triplets in batches of 16."""
    assert StaticTrainingRecipe().iterations(367) == 22938
    assert CellPhase().iterations(357) == 224
    assert CellPhase(epochs=0.001).iterations(4) == 1


@pytest.mark.parametrize("key", ["static", "cell", "end_to_end"])
def test_a_batch_of_one_cannot_be_normalised(key):
    with pytest.raises(InputError, match=rf"video.{key}.batch_size .*a batch needs at least two"):
        load_recipe("demo", settings=[f"video.{key}.batch_size=1"])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("video.static.scales=[2, 0.5]", "the smaller scale comes first"),
        ("video.sequence_length=1", "greater than or equal to 2"),
        ("video.static.crop=[600, 8]", "greater than or equal to 32"),
        ("video.cell.epoch=3", "Did you mean epochs"),
    ],
)
def test_what_is_refused(setting, message):
    with pytest.raises(InputError, match=message):
        load_recipe("demo", settings=[setting])


def test_plain_values_and_back():
    recipe = load_recipe("demo", settings=["video.static.epochs=0.5", "video.pad=null"])
    assert parse_recipe(recipe.to_dict(), where="test").video == recipe.video
    assert recipe.video.static.epochs == 0.5
    assert recipe.video.pad is None


def test_poly():
    assert poly_factor(10, 0.9, 0) == 1.0
    assert poly_factor(10, 0.9, 5) == pytest.approx(0.5**0.9)
    assert [poly_factor(10, 0.0, step) for step in range(10)] == [1.0] * 10
