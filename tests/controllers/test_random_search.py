import numpy as np
from controller_tests import ControllerTests
from toy_space import toy_tokens

from controllers.random_search import RandomController, RandomRecipe


class TestRandomController(ControllerTests):
    controller = RandomController
    recipe = RandomRecipe()
    learning = None

    def test_is_uniform_over_the_allowed_choices(self) -> None:
        controller = RandomController(toy_tokens(choices=3, body=2, head=0), RandomRecipe(), 0)
        counts = np.zeros((3, 3))
        for _ in range(1200):
            counts[tuple(controller.propose().architecture.parts["body"])] += 1
        assert counts.trace() == 0
        # Six sequences of probability 1/6: 200 each, standard deviation 13.
        assert np.all(np.abs(counts[~np.eye(3, dtype=bool)] - 200) < 65)
