"""Scores that are known without training: a table, and hidden functions of the tokens of ``fcos_decoder``.

On them a controller is run as the controller service runs it: a proposal whose score is known is answered from
memory and drawn again without an update, and 500 of these in a row end the run as converged.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from controllers.base import Controller
from controllers.drawing import draw
from search_spaces.base import SearchSpace, Tokens, TokenSpace
from search_spaces.fcos_decoder import FcosDecoder
from search_spaces.fcos_recipe import FcosDecoderRecipe
from search_spaces.table import TableRecipe, TableSpace

MAX_REPLAYS = 500
HIDDEN_SCORES = 5


class Problem(ABC):
    """One stage of a search space, with a score for each architecture.

    ``test_column``: what stands beside the reward, if anything does.
    """

    test_column: str | None = None

    def __init__(self, space: SearchSpace) -> None:
        self.tokens = TokenSpace(space, space.stages()[0])

    @abstractmethod
    def scores(self, tokens: Tokens) -> tuple[float, float]:
        """The reward, and the score that is not shown to the controller, of canonical tokens."""

    @abstractmethod
    def best(self) -> tuple[float, float]:
        """The highest reward, and the highest test score, of all architectures."""


class TableProblem(Problem):
    """A file of scores; ``test``: a column right of the score, by default the first."""

    def __init__(self, file: Path, test: str | None) -> None:
        space = TableSpace(TableRecipe(file=file))
        super().__init__(space)
        columns = space.table.columns
        self.test_column = test or (columns[1] if len(columns) > 1 else None)
        position = columns.index(self.test_column) if self.test_column else 0
        self._scores = {tokens: (row[0], row[position]) for tokens, row in space.table.scores.items()}

    def scores(self, tokens: Tokens) -> tuple[float, float]:
        return self._scores[tokens]

    def best(self) -> tuple[float, float]:
        rewards, tests = zip(*self._scores.values(), strict=True)
        return max(rewards), max(tests)


class HiddenScore(Problem):
    """FPN and head of ``fcos_decoder`` together, 42 decisions; ``number`` chooses the function.

    The score of canonical tokens t is sum_i a_i[t_i] + sum_(i, j) b_ij[t_i, t_j]: every decision has an effect
    of its own, and there are two interactions a decision, between random pairs. All effects are standard normal
    numbers; the sum is scaled to mean 0 and standard deviation 1 over random architectures.
    """

    def __init__(self, number: int) -> None:
        super().__init__(FcosDecoder(FcosDecoderRecipe(mode="joint")))
        rng = np.random.default_rng([number, 201])
        sizes = [len(decision.choices) for decision in self.tokens.decisions]
        self._effects = [rng.normal(size=size) for size in sizes]
        pairs = [(i, j) for i in range(len(sizes)) for j in range(i)]
        chosen = rng.permutation(len(pairs))[: 2 * len(sizes)].tolist()
        self._pairs = [(i, j, rng.normal(size=(sizes[i], sizes[j]))) for i, j in (pairs[k] for k in chosen)]
        self._mean, self._std = 0.0, 1.0
        sample = [self.scores(self.tokens.canonical(draw(self.tokens, rng)))[0] for _ in range(1000)]
        self._mean, self._std = float(np.mean(sample)), float(np.std(sample))

    def scores(self, tokens: Tokens) -> tuple[float, float]:
        total = sum(effect[token] for effect, token in zip(self._effects, tokens, strict=True))
        total += sum(table[tokens[i], tokens[j]] for i, j, table in self._pairs)
        score = float((total - self._mean) / self._std)
        return score, score

    def best(self) -> tuple[float, float]:
        """Of ten ascents, decision by decision, that may look at every score: there may be a better one."""
        rng = np.random.default_rng(0)
        score = max(self._ascend(draw(self.tokens, rng), rng) for _ in range(10))
        return score, score

    def _ascend(self, tokens: Tokens, rng: np.random.Generator) -> float:
        score, _ = self.scores(self.tokens.canonical(tokens))
        unchanged, decision = 0, 0
        while unchanged < len(tokens):
            unchanged += 1
            for choice, allowed in enumerate(self.tokens.allowed(tokens[:decision])):
                if not allowed or choice == tokens[decision]:
                    continue
                other = draw(self.tokens, rng, tokens, (*tokens[:decision], choice))
                reached, _ = self.scores(self.tokens.canonical(other))
                if reached > score:
                    tokens, score, unchanged = other, reached, 0
            decision = (decision + 1) % len(tokens)
        return score


@dataclass(frozen=True)
class Trace:
    """What a controller saw: ``rewards`` and ``tests`` of the distinct architectures in order, how many
    ``replays`` there were, whether it ``converged`` before its ``budget`` was spent, CPU seconds."""

    budget: int
    rewards: list[float]
    tests: list[float]
    replays: int
    converged: bool
    seconds: float


def simulate(controller: Controller, problem: Problem, budget: int) -> Trace:
    """Run a controller over ``budget`` distinct architectures."""
    space = problem.tokens
    start = time.process_time()
    known: dict[Tokens, float] = {}
    tests: list[float] = []
    replays = in_a_row = 0
    while len(known) < budget and in_a_row < MAX_REPLAYS:
        proposal = controller.propose()
        tokens = space.tokens(space.space.canonical(proposal.architecture))
        if tokens in known:
            controller.replayed(proposal.id, known[tokens])
            replays, in_a_row = replays + 1, in_a_row + 1
            continue
        in_a_row = 0
        known[tokens], test = problem.scores(tokens)
        tests.append(test)
        controller.observe(proposal.id, known[tokens])
    seconds = time.process_time() - start
    return Trace(budget, list(known.values()), tests, replays, len(known) < budget, seconds)
