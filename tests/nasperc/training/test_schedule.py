import pytest

from nasperc.training.recipe import TrainingRecipe
from nasperc.training.schedule import learning_rate_factor, milestones


def test_default_schedule_is_the_thesis_one():
    recipe = TrainingRecipe()
    assert milestones(recipe) == [60_000, 80_000]
    expected = {0: 1 / 3, 250: 2 / 3, 500: 1.0, 59_999: 1.0, 60_000: 0.1, 79_999: 0.1, 80_000: 0.01}
    for step, factor in expected.items():
        assert learning_rate_factor(recipe, step) == pytest.approx(factor)


def test_steps_stay_in_proportion_to_a_shorter_schedule():
    assert milestones(TrainingRecipe(iterations=900)) == [600, 800]
    assert milestones(TrainingRecipe(iterations=900, steps=(700, 0.5))) == [450, 700]


def test_constant_warmup():
    recipe = TrainingRecipe(
        iterations=10, warmup_iterations=3, warmup_factor=0.2, warmup_kind="constant", steps=()
    )
    assert [learning_rate_factor(recipe, step) for step in range(4)] == pytest.approx([0.2, 0.2, 0.2, 1.0])


def test_a_drop_inside_the_warmup_counts_too():
    recipe = TrainingRecipe(iterations=10, warmup_iterations=4, warmup_factor=0.5, steps=(2,))
    assert learning_rate_factor(recipe, 2) == pytest.approx(0.075)
