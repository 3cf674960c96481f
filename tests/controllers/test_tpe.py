import sys

import pytest
from controller_tests import ControllerTests
from toy_space import toy_reward, toy_tokens

from controllers.random_search import RandomController, RandomRecipe
from controllers.tpe import TPEController, TPERecipe
from nasperc.errors import InputError

pytest.importorskip("optuna")


class TestTPEController(ControllerTests):
    controller = TPEController
    recipe = TPERecipe(startup=6, candidates=6)


def test_learns_better_than_random():
    def late_mean(controller):
        rewards = []
        for _ in range(80):
            proposal = controller.propose()
            rewards.append(toy_reward(proposal.architecture))
            controller.observe(proposal.id, rewards[-1])
        return sum(rewards[-30:]) / 30

    tokens = toy_tokens(choices=4, body=5, head=3)
    random = late_mean(RandomController(tokens, RandomRecipe(), 0))
    assert late_mean(TPEController(tokens, TPERecipe(), 0)) > random + 1


def test_proposals_are_what_optuna_samples_where_no_rule_interferes():
    """The sampler itself, on the same rewards: one free decision a parameter, nothing to repair."""
    import optuna

    from controllers.service.seeds import derive_seed

    tokens = toy_tokens(choices=3, body=1, head=4)
    controller = TPEController(tokens, TPERecipe(startup=4, mutations=0), 7)
    names = [decision.name for decision in tokens.decisions]
    space = {
        decision.name: optuna.distributions.CategoricalDistribution(range(len(decision.choices)))
        for decision in tokens.decisions
    }
    study = optuna.create_study(direction="maximize")
    for index in range(15):
        proposal = controller.propose()
        study.sampler = optuna.samplers.TPESampler(
            n_startup_trials=4, multivariate=True, constant_liar=True, seed=derive_seed(7, index)
        )
        trial = study.ask(space)
        assert tokens.tokens(proposal.architecture) == tuple(trial.params[name] for name in names)
        reward = toy_reward(proposal.architecture)
        study.tell(trial, reward)
        controller.observe(proposal.id, reward)


def test_nothing_is_proposed_twice_before_all_is_known():
    tokens = toy_tokens(choices=3, body=3, head=1)

    def different(recipe):
        controller, seen = TPEController(tokens, recipe, 0), set()
        for _ in range(14):
            proposal = controller.propose()
            seen.add(tokens.canonical(tokens.tokens(proposal.architecture)))
            controller.observe(proposal.id, toy_reward(proposal.architecture))
        return len(seen)

    assert different(TPERecipe(startup=4)) == 14
    assert different(TPERecipe(startup=4, mutations=0)) < 14


def test_without_optuna_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"nasperc\[tpe\]"):
        TPEController(toy_tokens(), TPERecipe(), 0)
