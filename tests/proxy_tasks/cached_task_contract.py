"""The tests that every proxy task on a cache must pass: subclass it in the tests of a task."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from controllers.base import Candidate
from feature_cache.reader import CacheReader
from proxy_tasks.cache_check import CacheCheck
from proxy_tasks.cached_task import CachedTask
from proxy_tasks.candidate_training import CandidateTraining
from search_spaces.base import Architecture

MakeTask = Callable[[Path], CachedTask]
MakeCandidate = Callable[..., Candidate]

OTHER_PROCESS = """
import importlib.util, json, sys
from pathlib import Path
sys.path.append(str(Path(sys.argv[1]).parent))
spec = importlib.util.spec_from_file_location("tiny", sys.argv[1])
tiny = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny)
task = tiny.tiny_task(Path(sys.argv[2]))
task.prepare()
print(json.dumps([task.evaluate(tiny.tiny_candidate(task)).reward, task.fingerprint()]))
"""


def checked_task(task: CachedTask, check: CacheCheck) -> CachedTask:
    """The task as a driver has it."""
    setup = task.setup  # type: ignore[attr-defined]
    setup.context = replace(setup.context, check=check)
    return task


class CachedTaskContract:
    """Set ``tiny``, the file of functions ``tiny_task(folder)``, unprepared, and ``tiny_candidate(task, **fields)``;
    give fixtures ``prepared_folder``, ``make_task`` and ``make_candidate`` of the same.

    Attributes:
        caches: how many cache files a prepared folder has.
    """

    tiny: Path
    caches = 1

    @pytest.fixture
    def task(self, prepared_folder: Path, make_task: MakeTask) -> CachedTask:
        task = make_task(prepared_folder)
        task.prepare()
        return task

    def test_a_flipped_bit_in_any_cache_is_not_trained_on(
        self, prepared_folder: Path, tmp_path: Path, make_task: MakeTask
    ) -> None:
        folder = shutil.copytree(prepared_folder, tmp_path / "prepared")
        # Those that make_task opens; a folder may hold others.
        used: list[str] = []
        check = CacheCheck(lambda line: None, lambda name, sha256, before: used.append(name))
        checked_task(make_task(folder), check).prepare()
        assert len(used) == self.caches
        for name in used:
            path = folder / name
            whole = path.read_bytes()
            damaged = bytearray(whole)
            damaged[min(CacheReader(path).header.offsets.values()) + 3] ^= 0x40
            path.write_bytes(damaged)
            said: list[str] = []
            checked_task(make_task(folder), CacheCheck(said.append)).prepare()
            assert path.read_bytes() == whole
            assert [line for line in said if f"{name} is damaged and built again" in line] == said != []

    def test_the_reward_is_a_function_of_the_candidate_alone(
        self, task: CachedTask, make_candidate: MakeCandidate
    ) -> None:
        first = task.evaluate(make_candidate(task))
        task.evaluate(make_candidate(task, seed=99))
        torch.rand(5)
        second = task.evaluate(make_candidate(task))
        assert first.status == "completed"
        assert first.reward == second.reward
        assert first.halfway == second.halfway
        assert task.evaluate(make_candidate(task, seed=8)).reward != first.reward

    def test_another_process_prepares_at_the_same_time_and_measures_the_same(
        self, tmp_path: Path, make_task: MakeTask, make_candidate: MakeCandidate
    ) -> None:
        command = [sys.executable, "-c", OTHER_PROCESS, str(self.tiny), str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
            task = make_task(tmp_path)
            task.prepare()
            reward = task.evaluate(make_candidate(task)).reward
            output, _ = other.communicate()
        assert other.returncode == 0
        assert json.loads(output) == [reward, task.fingerprint()]
        assert len(list(tmp_path.glob("*.h5"))) == self.caches
        assert not list(tmp_path.glob(".*partial"))

    def test_a_prepared_folder_is_only_opened(
        self, prepared_folder: Path, task: CachedTask, make_task: MakeTask
    ) -> None:
        before = {file: file.stat().st_mtime_ns for file in prepared_folder.rglob("*")}
        phases: list[str] = []
        again = make_task(prepared_folder)
        again.prepare(lambda phase, fraction: phases.append(phase))
        assert phases == []
        assert {file: file.stat().st_mtime_ns for file in prepared_folder.rglob("*")} == before
        assert again.fingerprint() == task.fingerprint()

    def test_a_candidate_below_its_threshold_stops_half_way(
        self, task: CachedTask, make_candidate: MakeCandidate
    ) -> None:
        full = task.evaluate(make_candidate(task))
        assert full.halfway is not None
        stopped = task.evaluate(make_candidate(task, threshold=full.halfway + 1e-6))
        assert (stopped.status, stopped.reward, stopped.halfway) == ("stopped", None, full.halfway)
        passed = task.evaluate(make_candidate(task, threshold=full.halfway))
        assert (passed.status, passed.reward) == ("completed", full.reward)

    def test_cost_is_counted_without_training_too(
        self, task: CachedTask, make_candidate: MakeCandidate
    ) -> None:
        result = task.evaluate(make_candidate(task))
        assert result.cost["flops"] > result.cost["params"] > 0
        assert task.cost(make_candidate(task)) == result.cost
        # What is counted first changes nothing.
        assert task.evaluate(make_candidate(task)).reward == result.reward
        assert set(result.cost) | {"latency_ms"} == task.costs

    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (MemoryError("no room"), "out of memory, MemoryError: no room"),
            (
                torch.OutOfMemoryError("CUDA out of memory.\nTried"),
                "out of memory, OutOfMemoryError: CUDA out of memory. Tried",
            ),
            (ValueError("x" * 1000), "ValueError: xxx"),
        ],
    )
    def test_a_candidate_that_raises_comes_back_as_failed(
        self, task: CachedTask, make_candidate: MakeCandidate, error: Exception, reason: str
    ) -> None:
        with training_raises(error):
            result = task.evaluate(make_candidate(task))
        assert (result.status, result.reward) == ("failed", None)
        assert result.reason is not None
        assert result.reason.startswith(reason)
        assert len(result.reason) <= 300

    def test_an_interrupt_is_no_failure(self, task: CachedTask, make_candidate: MakeCandidate) -> None:
        with training_raises(KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
            task.evaluate(make_candidate(task))

    def test_a_learning_rate_that_diverges_fails_the_candidate(
        self, task: CachedTask, make_candidate: MakeCandidate
    ) -> None:
        result = task.evaluate(make_candidate(task, overrides={"learning_rate": 1e30}))
        assert result.status == "failed"
        assert result.reason is not None
        assert "diverged at step" in result.reason
        assert not result.transient

    def test_a_network_that_is_not_the_sampled_one_fails(
        self, task: CachedTask, make_candidate: MakeCandidate, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(type(task.space), "read_back", lambda self, modules: {"fpn": "other"})
        result = task.evaluate(make_candidate(task))
        assert result.status == "failed"
        assert result.reason is not None
        assert "sampled was" in result.reason

    def test_progress_ends_at_most_at_one(self, task: CachedTask, make_candidate: MakeCandidate) -> None:
        calls: list[tuple[str, float]] = []
        task.evaluate(make_candidate(task), lambda phase, fraction: calls.append((phase, fraction)))
        assert calls
        assert all(phase == "training" and 0 < fraction <= 1 for phase, fraction in calls)

    def test_latency_draws_no_random_numbers(self, task: CachedTask, make_candidate: MakeCandidate) -> None:
        candidate = make_candidate(task)
        state = torch.get_rng_state()
        latency = task.latency(candidate.architecture, candidate.widths)
        assert latency is not None
        assert 0 < latency.fastest_s <= latency.median_s <= latency.slowest_s
        assert latency.device == "cpu, 1 threads"
        assert torch.equal(torch.get_rng_state(), state)

    def test_latencies_of_a_ranking_take_turns_and_show_progress(
        self, task: CachedTask, make_candidate: MakeCandidate, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        candidate = make_candidate(task)
        pair = (candidate.architecture, candidate.widths)
        networks: list[nn.Module] = []
        runs: list[tuple[int, int]] = []
        told: list[tuple[str, float]] = []
        timed = task._timed

        def noting(architecture: Architecture, widths: Mapping[str, int]) -> nn.Module:
            network = timed(architecture, widths)
            place = len(networks)
            network.register_forward_pre_hook(lambda *_: runs.append((place, torch.get_num_threads())))
            networks.append(network)
            return network

        monkeypatch.setattr(task, "_timed", noting)
        torch.set_num_threads(2)
        try:
            latencies = task.latencies([pair, pair], lambda phase, share: told.append((phase, share)))
        finally:
            torch.set_num_threads(1)
        assert runs == [(0, 1), (1, 1)] * (len(runs) // 2)
        assert [latency.threads for latency in latencies] == [1, 1]
        assert {phase for phase, _ in told} == {"measuring latency"}
        assert told[-1][1] == 1
        assert task.latencies([]) == []

    def test_a_half_way_measurement_leaves_no_trace(
        self, task: CachedTask, make_candidate: MakeCandidate
    ) -> None:
        with_it = task.evaluate(make_candidate(task))
        without = task.evaluate(make_candidate(task, overrides={"early_stop": False}))
        assert with_it.halfway is not None
        assert without.halfway is None
        assert with_it.reward == without.reward

    def test_measuring_touches_neither_the_network_nor_the_random_numbers(
        self, task: CachedTask, make_candidate: MakeCandidate
    ) -> None:
        training = task.training(make_candidate(task))
        training.network.train()
        training._step(torch.arange(4), check=True)
        state = {name: tensor.clone() for name, tensor in training.network.state_dict().items()}
        random_state = torch.get_rng_state()
        training.measure()
        assert torch.equal(torch.get_rng_state(), random_state)
        assert training.network.training
        for name, tensor in training.network.state_dict().items():
            assert torch.equal(tensor, state[name]), name

    def test_the_averaged_network_is_the_one_that_is_measured(
        self, task: CachedTask, make_candidate: MakeCandidate
    ) -> None:
        """The average is 0.9 of the start and 0.1 of the step; a decay of 0 is the step itself."""
        rewards = {
            decay: task.evaluate(make_candidate(task, overrides={"polyak": decay})).reward
            for decay in (0.0, 0.9)
        }
        assert rewards[0.0] != rewards[0.9]

    def test_a_gradient_that_is_not_finite_never_reaches_the_weights(
        self, task: CachedTask, make_candidate: MakeCandidate
    ) -> None:
        training = task.training(make_candidate(task))
        weight = training._parameters[-1]
        weight.register_hook(lambda gradient: gradient * (float("inf") if training._steps == 1 else 1.0))
        training._step(torch.arange(4), check=False)
        before = weight.detach().clone()
        with pytest.raises(ArithmeticError, match="diverged at step 2: gradient norm"):
            training._step(torch.arange(4), check=False)
        assert torch.equal(weight, before)


@contextmanager
def training_raises(error: BaseException) -> Iterator[None]:
    """Every training raises ``error`` as it begins."""

    def raise_it(*_: Any) -> None:
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CandidateTraining, "run", raise_it)
        yield
