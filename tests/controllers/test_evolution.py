from controller_tests import ControllerTests
from toy_space import toy_reward, toy_tokens

from controllers.evolution import EvolutionController, EvolutionRecipe
from controllers.random_search import RandomController, RandomRecipe


class TestEvolutionController(ControllerTests):
    controller = EvolutionController
    recipe = EvolutionRecipe(population=8, sample=3)


def distance(one, other):
    return sum(a != b for a, b in zip(one, other, strict=True))


def test_children_come_from_the_best_of_the_sample():
    # A sample that holds every member for all practical purposes.
    tokens = toy_tokens(choices=3, body=1, head=6)
    controller = EvolutionController(tokens, EvolutionRecipe(population=4, sample=200), 0)
    first = [controller.propose() for _ in range(4)]
    for reward, proposal in enumerate(first):
        controller.observe(proposal.id, float(reward))
    best = tokens.tokens(first[-1].architecture)
    children = [tokens.tokens(controller.propose().architecture) for _ in range(10)]
    assert {distance(best, child) for child in children} == {1}


def test_the_oldest_dies_even_if_it_is_the_best():
    tokens = toy_tokens(choices=3, body=1, head=6)
    controller = EvolutionController(tokens, EvolutionRecipe(population=3, sample=200), 1)
    for reward in (9.0, 1.0, 2.0, 0.0):
        last = controller.propose()
        controller.observe(last.id, reward)
        if reward == 2.0:
            second = tokens.tokens(last.architecture)
    child = tokens.tokens(controller.propose().architecture)
    assert distance(second, child) == 1


def test_an_external_reward_joins_the_population():
    tokens = toy_tokens(choices=3, body=1, head=6)
    controller = EvolutionController(tokens, EvolutionRecipe(population=1, sample=1), 0)
    given = (2, 1, 1, 1, 0, 0, 1)
    controller.observe_external(tokens.architecture(given), 1.0)
    assert distance(given, tokens.tokens(controller.propose().architecture)) == 1


def test_learns_better_than_random():
    def late_mean(controller):
        rewards = []
        for _ in range(150):
            proposal = controller.propose()
            rewards.append(toy_reward(proposal.architecture))
            controller.observe(proposal.id, rewards[-1])
        return sum(rewards[-50:]) / 50

    tokens = toy_tokens(choices=4, body=5, head=3)
    random = late_mean(RandomController(tokens, RandomRecipe(), 0))
    assert late_mean(EvolutionController(tokens, EvolutionRecipe(), 0)) > random + 1.5


def test_of_many_external_rewards_the_best_stay():
    tokens = toy_tokens(choices=3, body=1, head=6)
    controller = EvolutionController(tokens, EvolutionRecipe(population=3, sample=200), 0)
    given = [(0, 0, 0, 0, 0, 0, 1), (1, 0, 0, 0, 0, 1, 1), (2, 0, 0, 1, 1, 1, 1), (0, 1, 1, 0, 0, 0, 0)]
    for reward, each in zip((9.0, 1.0, 8.0, 2.0), given, strict=True):
        controller.observe_external(tokens.architecture(each), reward)
    assert {tuple(member) for member, _ in controller.state_dict()["population"]} == set(
        map(tuple, (given[0], given[2], given[3]))
    )
    assert distance(given[0], tokens.tokens(controller.propose().architecture)) == 1


def test_a_generation_is_an_update():
    assert EvolutionController(toy_tokens(), EvolutionRecipe(population=7), 0).rewards_per_update() == 7
