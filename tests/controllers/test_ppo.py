import math

import pytest
import torch
from controller_tests import ControllerTests
from pydantic import ValidationError
from toy_space import toy_reward, toy_tokens

from controllers.ppo import PPOController, PPORecipe
from controllers.random_search import RandomController, RandomRecipe

SMALL = PPORecipe(hidden=16, learning_rate=1e-2)


class TestPPOController(ControllerTests):
    controller = PPOController
    recipe = SMALL


class TestPPOControllerWithBuffer(ControllerTests):
    """The rule of single steps over a buffer."""

    controller = PPOController
    recipe = PPORecipe(
        hidden=8, batch=2, buffer=5, minibatch=1, epochs=1, entropy=0, normalise_advantages=False
    )


@torch.no_grad()
def slow_log_probs(controller: PPOController, tokens: list[int]) -> list[float]:
    """One decision at a time, an LSTM written out, the softmax over the allowed choices only."""
    policy = controller.policy
    hidden = policy.start.numel()
    states = [(torch.zeros(hidden), torch.zeros(hidden)) for _ in range(policy.lstm.num_layers)]
    inputs, found = policy.start, []
    for decision, token in enumerate(tokens):
        for layer in range(policy.lstm.num_layers):
            w_ih, w_hh, b_ih, b_hh = (
                getattr(policy.lstm, f"{name}_l{layer}")
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            h, c = states[layer]
            i, f, g, o = (w_ih @ inputs + b_ih + w_hh @ h + b_hh).chunk(4)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            states[layer], inputs = (h, c), h
        allowed = controller.tokens.allowed(tuple(tokens[:decision]))
        scores = {
            choice: float(policy.head_weight[decision, choice] @ inputs + policy.head_bias[decision, choice])
            for choice, ok in enumerate(allowed)
            if ok
        }
        found.append(scores[token] - math.log(sum(math.exp(score) for score in scores.values())))
        inputs = policy.embedding[decision, token]
    return found


def flat(controller: PPOController, architecture: object) -> list[int]:
    return list(controller.tokens.tokens(architecture))  # type: ignore[arg-type]


def test_log_probs_equal_the_slow_way() -> None:
    controller = PPOController(toy_tokens(choices=4, body=5, head=3), PPORecipe(hidden=12, init_range=0.8), 0)
    for _ in range(4):
        proposal = controller.propose()
        episode = controller.pending[proposal.id]
        slow = torch.tensor(slow_log_probs(controller, flat(controller, proposal.architecture)))
        torch.testing.assert_close(episode["log_probs"], slow, atol=1e-5, rtol=0)
    episodes = list(controller.pending.values())
    batch = {name: torch.stack([episode[name] for episode in episodes]) for name in ("tokens", "masks")}
    together = controller.policy(**batch)
    for row, episode in enumerate(episodes):
        chosen = together[row].gather(1, episode["tokens"][:, None])[:, 0]
        torch.testing.assert_close(chosen, episode["log_probs"], atol=1e-5, rtol=0)
    assert torch.all(torch.isneginf(together[~batch["masks"]]))
    torch.testing.assert_close(together.exp().sum(-1), torch.ones(4, 8))


def test_samples_follow_the_log_probs() -> None:
    controller = PPOController(toy_tokens(choices=3, body=1, head=0), PPORecipe(hidden=4, init_range=2.0), 1)
    drawn = [controller.propose() for _ in range(1500)]
    tokens, masks = torch.zeros(1, 1, dtype=torch.int64), torch.ones(1, 1, 3, dtype=torch.bool)
    expected = controller.policy(tokens, masks)[0, 0]
    for choice in range(3):
        share = sum(proposal.architecture.parts["body"] == (choice,) for proposal in drawn) / len(drawn)
        assert share == pytest.approx(expected[choice].exp().item(), abs=0.05)


def test_log_probs_of_the_sampling_policy_are_kept() -> None:
    controller = PPOController(toy_tokens(), SMALL, 0)
    late = controller.propose()
    kept = controller.pending[late.id]["log_probs"].clone()
    for _ in range(20):
        proposal = controller.propose()
        controller.observe(proposal.id, toy_reward(proposal.architecture))
    assert torch.equal(controller.pending[late.id]["log_probs"], kept)
    now = torch.tensor(slow_log_probs(controller, flat(controller, late.architecture)))
    assert (now - kept).abs().max() > 0.01


def test_first_step_of_an_update_has_ratio_one() -> None:
    recipe = PPORecipe(hidden=8, batch=3, epochs=1, entropy=0.1, normalise_advantages=False)
    controller = PPOController(toy_tokens(), recipe, 0)
    for reward in (1.0, 2.0, 4.0):
        controller.observe(controller.propose().id, reward)
    found = controller.diagnostics()
    assert found["approx_kl"] == pytest.approx(0, abs=1e-6)
    assert found["clip_fraction"] == 0
    # Advantages 0, 1, 4 - 1.05; the ratio is 1 everywhere, so the loss is -mean(advantage) - bonus.
    mean = (0 + 1 + (4 - (0.95 * 1 + 0.05 * 2))) / 3
    assert found["loss"] == pytest.approx(-mean - 0.1 * found["entropy"], abs=1e-5)
    assert found["baseline"] == pytest.approx(0.95 * (0.95 * 1 + 0.05 * 2) + 0.05 * 4)


@pytest.mark.parametrize(("choices", "free"), [(3, 6), (2, 3)])
def test_default_entropy_is_shared_by_the_decisions_that_leave_a_choice(choices: int, free: int) -> None:
    # Of two choices, never twice the same, only the first of the body is free.
    recipe = PPORecipe(hidden=8, batch=2, epochs=1)
    controller = PPOController(toy_tokens(choices=choices, body=4, head=2), recipe, 0)
    for reward in (0.0, 0.0):
        controller.observe(controller.propose().id, reward)
    found = controller.diagnostics()
    # Equal rewards: no advantage, the loss is the bonus alone.
    assert found["loss"] == pytest.approx(-0.6 / free * found["entropy"], abs=1e-6)


def test_ratio_is_clipped_for_each_decision() -> None:
    """The objective written out decision by decision, on log-probabilities that are off by known factors."""
    recipe = PPORecipe(hidden=8, clip=0.2, entropy=0.0)
    controller = PPOController(toy_tokens(choices=3, body=2, head=1), recipe, 0)
    episodes = [controller.pending[controller.propose().id] for _ in range(2)]
    offsets = torch.tensor([[0.5, -0.05, -0.5], [0.4, 0.1, -0.6]])
    advantages = torch.tensor([2.0, -1.0])
    batch = {name: torch.stack([episode[name] for episode in episodes]) for name in episodes[0]}
    batch["log_probs"] = batch["log_probs"] - offsets
    expected, clipped = 0.0, 0
    for row in range(2):
        for decision in range(3):
            ratio = math.exp(float(offsets[row, decision]))
            bounded = min(max(ratio, 0.8), 1.2)
            expected -= min(ratio * float(advantages[row]), bounded * float(advantages[row])) / 6
            clipped += not 0.8 <= ratio <= 1.2
    found = controller._step(batch, advantages)
    assert found["loss"] == pytest.approx(expected, abs=1e-5)
    assert found["clip_fraction"] == pytest.approx(clipped / 6)


def test_decisions_without_a_choice_weigh_nothing() -> None:
    # Two choices, never twice the same: only the first token of the body is free.
    recipe = PPORecipe(hidden=8, batch=2, epochs=1)
    controller = PPOController(toy_tokens(choices=2, body=4, head=0), recipe, 0)
    for reward in (0.0, 1.0):
        controller.observe(controller.propose().id, reward)
    # Of one fair-ish coin, not a quarter of it.
    assert controller.diagnostics()["entropy"] == pytest.approx(math.log(2), abs=0.02)


def test_equal_rewards_give_finite_weights() -> None:
    controller = PPOController(toy_tokens(), SMALL, 0)
    for _ in range(20):
        controller.observe(controller.propose().id, 0.5)
    assert all(torch.isfinite(parameter).all() for parameter in controller.policy.parameters())
    assert all(math.isfinite(value) for value in controller.diagnostics().values())


def test_initial_weights_are_uniform_in_range() -> None:
    controller = PPOController(toy_tokens(), PPORecipe(init_range=0.1), 0)
    values = torch.cat([parameter.flatten() for parameter in controller.policy.parameters()])
    assert values.abs().max() <= 0.1
    assert values.std().item() == pytest.approx(0.1 / math.sqrt(3), rel=0.02)


def test_updates_come_every_batch() -> None:
    controller = PPOController(toy_tokens(), PPORecipe(hidden=8, batch=4), 0)
    seen = []
    for reward in range(9):
        controller.observe(controller.propose().id, float(reward))
        seen.append(controller.diagnostics().get("baseline"))
    assert [value is not None for value in seen] == [False] * 3 + [True] * 6
    assert len({value for value in seen if value is not None}) == 2


def test_learns_better_than_random() -> None:
    def late_mean(controller: PPOController | RandomController) -> float:
        rewards = []
        for _ in range(200):
            proposal = controller.propose()
            rewards.append(toy_reward(proposal.architecture))
            controller.observe(proposal.id, rewards[-1])
        return sum(rewards[-50:]) / 50

    tokens = toy_tokens(choices=4, body=5, head=3)
    # Best possible: 3, 2, 3, 2, 3 alternating and the flags on: 7.6; random is near 3.8.
    random = late_mean(RandomController(tokens, RandomRecipe(), 0))
    ppo = late_mean(PPOController(tokens, PPORecipe(hidden=32), 0))
    assert ppo > random + 1.5


def test_unknown_key_is_refused() -> None:
    with pytest.raises(ValidationError):
        PPORecipe(learningrate=1e-3)  # type: ignore[call-arg]


@pytest.mark.parametrize(("recipe", "rewards"), [({"batch": 10}, 10), ({"batch": 1, "buffer": 100}, 100)])
def test_an_update_learns_from_a_batch_or_a_buffer(recipe: dict[str, int], rewards: int) -> None:
    assert PPOController(toy_tokens(), PPORecipe(**recipe), 0).rewards_per_update() == rewards
