"""What proxy tasks have in common that train a searched part on cached outputs of a frozen network."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from typing import Any, ClassVar

import torch
from torch import nn

from controllers.base import Candidate, Result
from controllers.costs import COSTS, CostName
from feature_cache.format import fingerprint
from feature_cache.reader import CacheReader
from nasperc.errors import InputError
from nasperc.evaluation.latency import Latency, measure_latencies
from nasperc.evaluation.threads import threads
from nasperc.old_files import without_new_keys
from proxy_tasks.base import Progress, ProxyTask, TaskContext, no_progress
from proxy_tasks.cached_recipe import CachedTaskRecipe
from proxy_tasks.cached_setup import CachedSetup, DataIdentity
from proxy_tasks.candidate_training import CandidateTraining
from proxy_tasks.failure import failed, release_memory
from proxy_tasks.stopwatch import Stopwatch
from search_spaces.base import Architecture

# The GPU keeps the caches if they fill at most this share of its free memory.
GPU_SHARE = 0.5
LATENCY_RUNS = 5
# Networks whose runs take turns, all in memory at once.
TIMED_AT_ONCE = 20


class CachedTask(ProxyTask):
    """Seeds, threads, failures, costs and results; a task says how its candidates are built and trained.

    Rewards are bit for bit the same in every process of a machine on CPU; on CUDA some backward kernels add
    in no fixed order.
    """

    costs: ClassVar[frozenset[CostName]] = frozenset(COSTS)

    setup: CachedSetup

    def __init__(self, recipe: CachedTaskRecipe, context: TaskContext) -> None:
        self.recipe, self.space = recipe, context.space
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._counted: tuple[Candidate | None, dict[str, float]] = (None, {})

    @abstractmethod
    def _build(self, candidate: Candidate) -> dict[str, nn.Module]:
        """The candidate's modules; random numbers are seeded.

        Raises:
            InputError: the stage's widths do not fit.
        """

    @abstractmethod
    def _cost(self, modules: dict[str, nn.Module]) -> dict[str, float]:
        """``flops`` and ``params`` of a candidate."""

    @abstractmethod
    def _training(
        self, candidate: Candidate, modules: dict[str, nn.Module], stopwatch: Stopwatch | None = None
    ) -> CandidateTraining[Any, Any]:
        """The training of a candidate's modules."""

    @abstractmethod
    def _timed(self, architecture: Architecture, widths: Mapping[str, int]) -> nn.Module:
        """The network, to be called with an image, that latencies are of; with random weights."""

    @property
    @abstractmethod
    def _timed_size(self) -> tuple[int, int]:
        """(H, W) of that image."""

    @abstractmethod
    def _measured_on(self, data: DataIdentity) -> Mapping[str, Any]:
        """Plain values that rewards depend on beside recipe and space."""

    def evaluate(self, candidate: Candidate, on_progress: Progress = no_progress) -> Result:
        """See :meth:`ProxyTask.evaluate`."""
        started = time.perf_counter()
        try:
            with threads(self.recipe.num_threads), self._seeded(candidate.seed):
                result = self._evaluate(candidate, on_progress)
        except Exception as error:
            result = failed(error)
        if result.transient:
            release_memory()
        return replace(result, seconds=time.perf_counter() - started)

    def training(
        self, candidate: Candidate, stopwatch: Stopwatch | None = None
    ) -> CandidateTraining[Any, Any]:
        """The candidate's network, initialised by its seed and checked, ready to be trained.

        Raises:
            InputError: the stage's overrides or widths do not fit.
            RuntimeError: the network that was built is not the one that was sampled.
        """
        return self._training(candidate, self.modules(candidate), stopwatch)

    def modules(self, candidate: Candidate) -> dict[str, nn.Module]:
        """The modules of a candidate, initialised by its seed and checked.

        Raises:
            InputError: the stage's widths do not fit.
            RuntimeError: the network that was built is not the one that was sampled.
        """
        with self._seeded(candidate.seed):
            modules = self._build(candidate)
        built, sampled = self.space.read_back(modules), dict(candidate.architecture.parts)
        if built != sampled:
            raise RuntimeError(f"the network that was built is {built}, sampled was {sampled}")
        return modules

    def cost(self, candidate: Candidate) -> dict[str, float]:
        """See :meth:`ProxyTask.cost`."""
        cost = self._cost(self.modules(candidate))
        self._counted = (candidate, cost)
        return cost

    def latency(self, architecture: Architecture, widths: Mapping[str, int]) -> Latency:
        """See :meth:`ProxyTask.latency`."""
        return self.latencies([(architecture, widths)])[0]

    def latencies(
        self, those: Sequence[tuple[Architecture, Mapping[str, int]]], on_progress: Progress = no_progress
    ) -> list[Latency]:
        """See :meth:`ProxyTask.latencies`."""
        found: list[Latency] = []
        for first in range(0, len(those), TIMED_AT_ONCE):
            networks = []
            for architecture, widths in those[first : first + TIMED_AT_ONCE]:
                on_progress("measuring latency", first / len(those))
                with self._seeded(self.recipe.seed):
                    networks.append(self._timed(architecture, widths))

            def on_run(share: float, first: int = first, count: int = len(networks)) -> None:
                on_progress("measuring latency", (first + share * count) / len(those))

            with self._seeded(self.recipe.seed):
                found += measure_latencies(networks, self._timed_size, runs=LATENCY_RUNS, on_run=on_run)
        return found

    def fingerprint(self) -> str:
        """See :meth:`ProxyTask.fingerprint`; an old run keeps the one that it began with."""
        return self._fingerprint(self.setup.identity)

    def earlier_fingerprints(self) -> tuple[str, ...]:
        """See :meth:`ProxyTask.earlier_fingerprints`."""
        return (self._fingerprint(self.setup.old_identity),)

    def known(self) -> dict[str, Any]:
        """See :meth:`ProxyTask.known`."""
        return self.setup.known()

    def _fingerprint(self, data: DataIdentity) -> str:
        space = [self.space.name, self.space.version, self.space.variant]
        recipe = self.recipe.model_dump(mode="json")
        contents = {**self._measured_on(data), "recipe": recipe, "space": space}
        return fingerprint(without_new_keys(contents) if data.old else contents)

    def _read_data(self, on_progress: Progress) -> None:
        """Find out what the data are, before anything is built from them.

        Raises:
            InputError: they show nothing to learn; a file cannot be read; the run that is resumed measured on others.
        """
        setup, began = self.setup, self.setup.context.began_with
        if began is None:
            setup.check_parts()
            setup.read_data(on_progress)
            return
        # What a run has measured on had something to learn, whatever today's readers make of the same annotations.
        setup.read_data(on_progress)
        if began == self.fingerprint():
            return
        for identity in chain([setup.old_identity], setup.old_identities()):
            if self._fingerprint(identity) == began:
                setup.go_on_as_old(identity)
                return
        now = setup.identity
        changed = setup.dataset.changed_since(
            lambda data: self._fingerprint(replace(now, fingerprint=data)) == began
        )
        raise InputError(
            "a resumed run must measure what it measured before",
            value=f"another task than the {began[:8]} that it began with"
            if changed is None
            else "other bytes",
            where=f"{setup.dataset.name} {setup.dataset.split}"
            if changed is None
            else f"{changed}, the first file that changed",
            repair="Annotations, images, weights or the version of the proxy task have changed: restore them, or begin "
            "a new run."
            if changed is None
            else "Restore the files that changed, or begin a new run.",
        )

    def _evaluate(self, candidate: Candidate, on_progress: Progress) -> Result:
        modules = self.modules(candidate)
        # Counting takes some 0.2 s: under a limit the worker has done it.
        counted, cost = self._counted
        if counted != candidate:
            cost = self._cost(modules)
        training = self._training(candidate, modules)
        halfway, final = training.run(candidate.threshold, on_progress)
        last = final or halfway
        assert last is not None
        seconds = {f"seconds_{name}": value for name, value in training.stopwatch.summary().items()}
        return Result(
            status="completed" if final is not None else "stopped",
            reward=None if final is None else final.reward,
            halfway=None if halfway is None else halfway.reward,
            metrics={**last.metrics(), **seconds},
            cost=cost,
        )

    def _keep_on_device(self, *readers: CacheReader) -> None:
        """Move caches to the GPU if they fit, so that no batch is read from the host."""
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            if sum(reader.nbytes for reader in readers) < GPU_SHARE * free:
                for reader in readers:
                    reader.to_device(self.device)

    @contextmanager
    def _seeded(self, seed: int) -> Iterator[None]:
        """Random numbers from ``seed``; outside they go on as if nothing had been drawn."""
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield


def described_data(contents: Mapping[str, Any]) -> dict[str, Any]:
    """The part ``data`` of a task's description, from what its cache was made of."""
    return {
        "fingerprint": contents["data"],
        "classes": contents["classes"],
        "normalisation": contents["normalisation"],
    }
