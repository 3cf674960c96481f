import numpy as np
import pytest
import torch
from controller_tests import ControllerTests, through_disk
from scipy.stats import norm, rankdata
from toy_space import toy_reward, toy_tokens

from controllers.ppo import PPORecipe
from controllers.random_search import RandomController, RandomRecipe
from controllers.surrogate import SurrogateController, SurrogateRecipe, normal_scores

SMALL = SurrogateRecipe(
    initial=6,
    interval=4,
    pool=24,
    members=2,
    hidden=8,
    steps=10,
    batch=8,
    policy=PPORecipe(hidden=8, batch=4),
)


LEARNING = {"pool": 150, "hidden": 32, "steps": 60}


class TestSurrogateController(ControllerTests):
    controller = SurrogateController
    recipe = SMALL
    learning = LEARNING


class TestSurrogateWithPolicy(ControllerTests):
    controller = SurrogateController
    recipe = SMALL.model_copy(update={"proposer": "policy"})
    learning = LEARNING


class TestSurrogateWithBoth(ControllerTests):
    controller = SurrogateController
    recipe = SMALL.model_copy(update={"proposer": "both"})
    learning = LEARNING


def rewards_of(controller, count):
    rewards = []
    for _ in range(count):
        proposal = controller.propose()
        rewards.append(toy_reward(proposal.architecture))
        controller.observe(proposal.id, rewards[-1])
    return rewards


@pytest.mark.parametrize("proposer", ["mutants", "policy", "both"])
def test_soon_proposes_good_ones_only(proposer):
    tokens = toy_tokens(choices=4, body=5, head=3)
    recipe = SMALL.model_copy(
        update={"initial": 20, "pool": 150, "hidden": 32, "steps": 60, "proposer": proposer}
    )
    random = rewards_of(RandomController(tokens, RandomRecipe(), 0), 300)
    rewards = rewards_of(SurrogateController(tokens, recipe, 0), 60)
    assert np.mean(rewards[-20:]) > np.quantile(random, 0.95)


def test_nothing_is_proposed_twice_while_there_is_anything_new():
    # Two blocks of three that differ, either order being the same network, and two flags.
    tokens = toy_tokens(choices=3, body=2, head=2)
    controller = SurrogateController(tokens, SMALL.model_copy(update={"pool": 200}), 0)
    seen = []
    for _ in range(6 + 12):
        proposal = controller.propose()
        canonical = tokens.space.canonical(proposal.architecture)
        if canonical in seen:
            controller.replayed(proposal.id, 0.0)
            continue
        seen.append(canonical)
        controller.observe(proposal.id, toy_reward(canonical))
    # Of the 3 * 4 networks, only random architectures at the beginning may have come twice.
    assert len(seen) == 12
    for _ in range(10):
        proposal = controller.propose()
        assert tokens.space.canonical(proposal.architecture) in seen
        controller.replayed(proposal.id, 0.0)


def test_is_trained_at_intervals(monkeypatch):
    trained = []
    original = SurrogateController._train
    monkeypatch.setattr(
        SurrogateController, "_train", lambda self: trained.append(len(self._rewards)) or original(self)
    )
    controller = SurrogateController(toy_tokens(choices=4, body=5, head=3), SMALL, 0)
    rewards_of(controller, 20)
    assert trained == [6, 10, 14, 18]


def test_the_scale_of_the_rewards_does_not_matter():
    tokens = toy_tokens(choices=4, body=5, head=3)
    plain, warped = SurrogateController(tokens, SMALL, 0), SurrogateController(tokens, SMALL, 0)
    for _ in range(30):
        proposals = plain.propose(), warped.propose()
        assert proposals[0] == proposals[1]
        reward = toy_reward(proposals[0].architecture)
        plain.observe(proposals[0].id, reward)
        warped.observe(proposals[1].id, 1e4 * np.exp(reward).item() - 1e6)


def test_a_policy_of_its_own_is_saved_and_trained():
    controller = SurrogateController(toy_tokens(), SMALL.model_copy(update={"proposer": "policy"}), 0)
    before = through_disk(controller.state_dict())["policy"]["policy"]["start"]
    rewards_of(controller, 8)
    after = through_disk(controller.state_dict())["policy"]["policy"]["start"]
    assert not torch.equal(before, after)


@pytest.mark.parametrize(
    "rewards", [[3.0, 1.0, 2.0], [1.0, 1.0, 1.0, 5.0], [0.5], [2.0, -1.0, 2.0, 7.0, -1.0]]
)
def test_normal_scores(rewards):
    expected = norm.ppf((rankdata(rewards) - 0.5) / len(rewards))
    np.testing.assert_allclose(normal_scores(torch.tensor(rewards, dtype=torch.float64)), expected, atol=1e-6)


@pytest.mark.parametrize(("proposer", "rewards"), [("mutants", 4), ("policy", 9), ("both", 9)])
def test_an_update_is_a_training_of_the_ensemble_and_of_the_policy(proposer, rewards):
    recipe = SMALL.model_copy(update={"proposer": proposer, "policy": PPORecipe(hidden=8, batch=9)})
    assert SurrogateController(toy_tokens(), recipe, 0).rewards_per_update() == rewards
