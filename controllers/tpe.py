"""Optuna's tree-structured Parzen estimator (Bergstra et al. 2011; multivariate: Falkner et al. 2018)."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from controllers.base import Controller, Proposal
from controllers.drawing import draw, mutate
from controllers.service.seeds import derive_seed
from nasperc.errors import InputError
from search_spaces.base import Architecture, Tokens, TokenSpace


class TPERecipe(BaseModel):
    """Settings of :class:`TPEController`; the defaults are Optuna's.

    Attributes:
        startup: rewards before anything but random architectures is proposed.
        candidates: drawn from the good ones' density, of which the one with the best ratio is proposed.
        mutations: at most so many one after another where that one was measured before or is pending.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    startup: int = Field(10, gt=0)
    candidates: int = Field(24, gt=0)
    mutations: int = Field(64, ge=0)


class TPEController(Controller):
    """The multivariate sampler, one categorical parameter a decision; pending candidates count as bad ones.

    Optuna knows nothing of choices that depend on earlier ones: what it samples is repaired decision by
    decision (:func:`controllers.drawing.draw`), and it learns of the repaired sequence. Nor that a score may
    be exact: it samples its best ones over and over, so what is known already is mutated, step by step, until
    it is new (without that, 48 of 50 runs on NAS-Bench-201 ended after 150 architectures). Its sampler is made
    anew for each proposal, with a seed that follows from the proposal's number, so the state is the list of
    trials and nothing else.

    Raises:
        InputError: Optuna is not installed.
    """

    Recipe = TPERecipe

    def __init__(self, tokens: TokenSpace, recipe: BaseModel, seed: int) -> None:
        assert isinstance(recipe, TPERecipe)
        try:
            import optuna
        except ImportError as error:
            raise InputError(
                "the controller tpe needs Optuna",
                value=error,
                where="recipe key controller.name",
                repair='Install it: pip install "nasperc[tpe]", or choose another controller.',
            ) from error
        self._optuna = optuna
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.tokens, self.recipe, self._seed = tokens, recipe, seed
        self._distributions: dict[str, optuna.distributions.BaseDistribution] = {
            decision.name: optuna.distributions.CategoricalDistribution(range(len(decision.choices)))
            for decision in tokens.decisions
        }
        self._sampler = self._sampler_class()
        self._next_id = 0
        self._restart()

    def _sampler_class(self) -> Any:
        """Optuna's sampler without its search for the parameters that all trials share, which takes longer with
        every trial: here they are known."""
        free = {name: each for name, each in sorted(self._distributions.items()) if not each.single()}

        class Sampler(self._optuna.samplers.TPESampler):  # type: ignore[name-defined]
            def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
                return dict(free)

        return Sampler

    def _restart(self) -> None:
        self._study = self._optuna.create_study(direction="maximize")
        # Trials with a reward in the order of Optuna's numbers, and the number of each pending one.
        self._trials: dict[int, tuple[Tokens, float | None]] = {}
        self._pending: dict[int, int] = {}
        self._canonical: dict[int, Tokens] = {}

    def propose(self) -> Proposal:
        seed = derive_seed(self._seed, self._next_id)
        with warnings.catch_warnings():
            # Before Optuna 5 both options are "experimental".
            warnings.simplefilter("ignore", self._optuna.exceptions.ExperimentalWarning)
            self._study.sampler = self._sampler(
                n_startup_trials=self.recipe.startup,
                n_ei_candidates=self.recipe.candidates,
                multivariate=True,
                constant_liar=True,
                seed=seed,
            )
        trial = self._study.ask(self._distributions)
        wanted = tuple(trial.params[decision.name] for decision in self.tokens.decisions)
        self._study.tell(trial.number, state=self._optuna.trial.TrialState.FAIL)
        tokens = self._unknown(wanted, np.random.default_rng(seed))
        proposal = Proposal(self._next_id, self.tokens.architecture(tokens))
        self._pending[proposal.id] = self._add(tokens, None)
        self._next_id += 1
        return proposal

    def _unknown(self, wanted: Tokens, rng: np.random.Generator) -> Tokens:
        """``wanted``, repaired, if nothing equal to it has a reward or is pending; else mutated."""
        tokens = draw(self.tokens, rng, wanted)
        for _ in range(self.recipe.mutations):
            if self.tokens.canonical(tokens) not in self._canonical.values():
                break
            tokens = mutate(self.tokens, tokens, rng)
        return tokens

    def observe(self, proposal_id: int, reward: float) -> None:
        number = self._pending.pop(proposal_id)
        self._study.tell(number, reward)
        self._trials[number] = (self._trials[number][0], reward)

    def replayed(self, proposal_id: int, reward: float) -> None:
        self.fail(proposal_id)

    def fail(self, proposal_id: int) -> None:
        number = self._pending.pop(proposal_id)
        self._study.tell(number, state=self._optuna.trial.TrialState.FAIL)
        del self._trials[number], self._canonical[number]

    def observe_external(self, architecture: Architecture, reward: float) -> None:
        self._add(self.tokens.tokens(architecture), reward)

    def _add(self, tokens: Tokens, reward: float | None) -> int:
        """A trial, running without a reward; its number in the study."""
        states = self._optuna.trial.TrialState
        number = len(self._study.get_trials(deepcopy=False))
        trial = self._optuna.trial.create_trial(
            state=states.RUNNING if reward is None else states.COMPLETE,
            value=reward,
            params=dict(zip(self._distributions, tokens, strict=True)),
            distributions=self._distributions,
        )
        self._study.add_trial(trial)
        self._trials[number], self._canonical[number] = (tokens, reward), self.tokens.canonical(tokens)
        return number

    def state_dict(self) -> dict[str, Any]:
        position = {number: index for index, number in enumerate(self._trials)}
        return {
            "seed": self._seed,
            "next_id": self._next_id,
            "trials": [(list(tokens), reward) for tokens, reward in self._trials.values()],
            "pending": {id: position[number] for id, number in self._pending.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._restart()
        self._seed, self._next_id = state["seed"], state["next_id"]
        numbers = [self._add(tuple(tokens), reward) for tokens, reward in state["trials"]]
        self._pending = {id: numbers[index] for id, index in state["pending"].items()}
