"""A space and a proxy task in a plain file, as a user would write them: ``toy_plugin.py:ToySpace``."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict

from controllers.base import Candidate, Result
from controllers.costs import COSTS
from nasperc.evaluation.latency import Latency
from proxy_tasks.base import Progress, ProxyTask, TaskContext, no_progress
from search_spaces.base import Architecture, Decision, Part, SearchSpace, Stage


class ToySpaceRecipe(BaseModel):
    model_config = ConfigDict(extra="forbid")

    body: int = 5
    choices: int = 4


class ToySpace(SearchSpace):
    """``body``: tokens whose order does not matter. ``head``: three flags. Searched one after the other."""

    name = "toy"
    Recipe = ToySpaceRecipe
    parts = ("body", "head")
    variant = "plain"

    def __init__(self, recipe: BaseModel) -> None:
        assert isinstance(recipe, ToySpaceRecipe)
        self._recipe = recipe

    def decisions(self, part: str) -> tuple[Decision, ...]:
        if part == "body":
            choices = tuple(f"op{choice}" for choice in range(self._recipe.choices))
            return tuple(Decision(f"body.op{index}", "op", choices) for index in range(self._recipe.body))
        return tuple(Decision(f"head.flag{index}", "flag", ("off", "on")) for index in range(3))

    def canonical(self, architecture: Architecture) -> Architecture:
        body = architecture.parts["body"]
        assert not isinstance(body, str)
        parts = {**architecture.parts, "body": tuple(sorted(body))}
        return Architecture(self.name, self.version, self.variant, parts)

    def stages(self) -> tuple[Stage, ...]:
        return (
            Stage("body", ("body",), {"head": "original"}, {"body": 8}, 0.75),
            Stage("head", ("head",), {"body": "best"}, {"body": 16}, 0.25),
        )


class ToyProxyRecipe(BaseModel):
    """What goes wrong is named by candidate id; markers make it go wrong once."""

    model_config = ConfigDict(extra="forbid")

    seconds: float = 0.0
    nan: tuple[int, ...] = ()
    raises: tuple[int, ...] = ()
    hangs: tuple[int, ...] = ()
    # Asks for 4 GiB, which it never touches.
    eats_memory: tuple[int, ...] = ()
    kills_itself_once: tuple[int, ...] = ()
    interrupts_once: tuple[int, ...] = ()
    setup_fails: bool = False
    setup_fails_once: bool = False
    process_dies_in_setup: bool = False
    # Stages leave a file each when they are prepared; an evaluation wants its own.
    prepares_stages: bool = False
    knows_latency: bool = False
    # What a measurement of it had of a core.
    core_share: float | None = None
    # What the fingerprint is of.
    measures: str = "toy"


class ToyProxy(ProxyTask):
    """The reward is a function of the seed, which follows from the architecture."""

    Recipe = ToyProxyRecipe
    costs = frozenset(COSTS)

    def __init__(self, recipe: BaseModel, context: TaskContext) -> None:
        assert isinstance(recipe, ToyProxyRecipe)
        self._recipe, self._folder = recipe, context.folder
        self._prepared = False

    def prepare(self, on_progress: Progress = no_progress) -> None:
        on_progress("toy cache", 0.0)
        self._folder.mkdir(parents=True, exist_ok=True)
        cache = self._folder / "toy_cache"
        # The first one to prepare is the driver; what comes later is a worker.
        if cache.exists():
            if self._recipe.setup_fails or (self._recipe.setup_fails_once and self._first("setup")):
                raise RuntimeError("the cache\nis gone")
            if self._recipe.process_dies_in_setup:
                os.kill(os.getpid(), signal.SIGKILL)
        cache.write_text("prepared")
        self._prepared = True
        on_progress("toy cache", 1.0)

    @classmethod
    def prepares_stages(cls, recipe: BaseModel) -> bool:
        assert isinstance(recipe, ToyProxyRecipe)
        return recipe.prepares_stages

    def prepare_stage(
        self, stage: Stage, fixed: Mapping[str, Part], on_progress: Progress = no_progress
    ) -> None:
        if self._recipe.prepares_stages:
            self._stage_file(stage.name, fixed).touch()

    def _stage_file(self, stage: str, fixed: Mapping[str, Part]) -> Path:
        words = [
            stage,
            *(part if isinstance(part, str) else "".join(map(str, part)) for part in fixed.values()),
        ]
        return self._folder / "-".join(words)

    def evaluate(self, candidate: Candidate, on_progress: Progress = no_progress) -> Result:
        assert self._prepared
        if self._recipe.prepares_stages:
            fixed = "head" if candidate.stage == "body" else "body"
            parts = {fixed: candidate.architecture.parts[fixed]}
            assert self._stage_file(candidate.stage, parts).exists()
        recipe, id = self._recipe, candidate.id
        if id in recipe.raises:
            raise ZeroDivisionError("toy failure")
        if id in recipe.hangs:
            time.sleep(60)
        if id in recipe.eats_memory:
            torch.empty(2**30)
        if id in recipe.kills_itself_once and self._first(f"killed_{id}"):
            os.kill(os.getpid(), signal.SIGKILL)
        if id in recipe.interrupts_once and self._first(f"interrupted_{id}"):
            raise KeyboardInterrupt
        time.sleep(recipe.seconds)
        on_progress("train", 1.0)
        reward = float("nan") if id in recipe.nan else toy_reward(candidate.seed)
        return Result("completed", reward, reward - 0.1, {"val_loss": 1 - reward}, self.cost(candidate), 0.5)

    def cost(self, candidate: Candidate) -> dict[str, float]:
        """The higher the tokens the more multiply-accumulates."""
        parts = candidate.architecture.parts.values()
        total = sum(token for part in parts if not isinstance(part, str) for token in part)
        return {"flops": 1e6 * (1 + total), "params": 1e3}

    def latency(self, architecture: Architecture, widths: Mapping[str, int]) -> Latency | None:
        seconds = widths[next(iter(widths))] / 1000
        share = self._recipe.core_share
        return Latency(seconds, seconds, seconds, 1, "toy", 1, share) if self._recipe.knows_latency else None

    def fingerprint(self) -> str:
        return hashlib.sha256(self._recipe.measures.encode()).hexdigest()

    def description(self) -> dict[str, Any]:
        data = {"fingerprint": self.fingerprint(), "classes": ["toy"], "normalisation": "imagenet"}
        return {"data": data, "weights": {"backbone": None}}

    def _first(self, marker: str) -> bool:
        path: Path = self._folder / marker
        if path.exists():
            return False
        path.write_text("")
        return True


def toy_reward(seed: int) -> float:
    """In [0, 1)."""
    return (seed % 9973) / 9973
