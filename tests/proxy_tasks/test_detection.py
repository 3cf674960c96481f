"""The proxy task as the search sees it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from controllers.base import Candidate
from nasperc.errors import InputError
from proxy_tasks.base import TaskContext
from proxy_tasks.detection import DetectionProxy
from proxy_tasks.detection_recipe import DetectionProxyRecipe
from proxy_tasks.detection_training import DecoderTraining

MakeCandidate = Callable[..., Candidate]
MakeContext = Callable[..., TaskContext]
MakeRecipe = Callable[..., DetectionProxyRecipe]

OTHER_PROCESS = """
import importlib.util, json, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("tiny", sys.argv[1])
tiny = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny)
from proxy_tasks.detection import DetectionProxy
task = DetectionProxy(tiny.tiny_recipe(), tiny.tiny_context(Path(sys.argv[2])))
task.prepare()
print(json.dumps([task.evaluate(tiny.tiny_candidate(task)).reward, task.fingerprint()]))
"""


def test_the_reward_is_a_function_of_the_candidate_alone(
    task: DetectionProxy, make_candidate: MakeCandidate
) -> None:
    first = task.evaluate(make_candidate(task))
    task.evaluate(make_candidate(task, fpn=None, seed=99))
    torch.rand(5)
    second = task.evaluate(make_candidate(task))
    assert first.status == "completed"
    assert first.reward == second.reward
    assert first.halfway == second.halfway
    assert task.evaluate(make_candidate(task, seed=8)).reward != first.reward


def test_another_process_prepares_at_the_same_time_and_measures_the_same(
    tmp_path: Path, make_recipe: MakeRecipe, make_context: MakeContext, make_candidate: MakeCandidate
) -> None:
    tiny = Path(__file__).with_name("conftest.py")
    command = [sys.executable, "-c", OTHER_PROCESS, str(tiny), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        task = DetectionProxy(make_recipe(), make_context(tmp_path))
        task.prepare()
        reward = task.evaluate(make_candidate(task)).reward
        output, _ = other.communicate()
    assert other.returncode == 0
    assert json.loads(output) == [reward, task.fingerprint()]
    assert len(list(tmp_path.glob("cache-*.h5"))) == 1
    assert not list(tmp_path.glob(".*partial"))


def test_a_prepared_folder_is_only_opened(prepared_folder: Path, task: DetectionProxy) -> None:
    before = {file: file.stat().st_mtime_ns for file in prepared_folder.rglob("*")}
    phases: list[str] = []
    again = DetectionProxy(task.recipe, task.setup.context)
    again.prepare(lambda phase, fraction: phases.append(phase))
    assert phases == []
    assert {file: file.stat().st_mtime_ns for file in prepared_folder.rglob("*")} == before
    assert again.fingerprint() == task.fingerprint()


def test_a_candidate_below_its_threshold_stops_half_way(
    task: DetectionProxy, make_candidate: MakeCandidate
) -> None:
    full = task.evaluate(make_candidate(task))
    assert full.halfway is not None
    stopped = task.evaluate(make_candidate(task, threshold=full.halfway + 1e-6))
    assert (stopped.status, stopped.reward, stopped.halfway) == ("stopped", None, full.halfway)
    passed = task.evaluate(make_candidate(task, threshold=full.halfway))
    assert (passed.status, passed.reward) == ("completed", full.reward)


def test_a_result_carries_losses_and_cost(task: DetectionProxy, make_candidate: MakeCandidate) -> None:
    result = task.evaluate(make_candidate(task))
    assert result.reward is not None
    losses = [result.metrics[f"loss_{name}"] for name in ("classification", "box", "centerness")]
    assert sum(losses) == pytest.approx(-result.reward)
    decoder = task.training(make_candidate(task)).decoder
    assert result.cost["params"] == sum(p.numel() for p in decoder.parameters())
    assert result.cost["flops"] > result.cost["params"]


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
    task: DetectionProxy,
    make_candidate: MakeCandidate,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    reason: str,
) -> None:
    def raise_it(*_: object) -> None:
        raise error

    monkeypatch.setattr(DecoderTraining, "run", raise_it)
    result = task.evaluate(make_candidate(task))
    assert (result.status, result.reward) == ("failed", None)
    assert result.reason is not None
    assert result.reason.startswith(reason)
    assert len(result.reason) <= 300


def test_an_interrupt_is_no_failure(
    task: DetectionProxy, make_candidate: MakeCandidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(DecoderTraining, "run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        task.evaluate(make_candidate(task))


def test_a_learning_rate_that_diverges_fails_the_candidate(
    task: DetectionProxy, make_candidate: MakeCandidate
) -> None:
    result = task.evaluate(make_candidate(task, overrides={"learning_rate": 1e30}))
    assert result.status == "failed"
    assert result.reason is not None
    assert "diverged at step" in result.reason
    assert not result.transient


def test_a_network_that_is_not_the_sampled_one_fails(
    task: DetectionProxy, make_candidate: MakeCandidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(task.space), "read_back", lambda self, modules: {"fpn": "other"})
    result = task.evaluate(make_candidate(task))
    assert result.status == "failed"
    assert result.reason is not None
    assert "sampled was" in result.reason


def test_progress_ends_at_most_at_one(task: DetectionProxy, make_candidate: MakeCandidate) -> None:
    calls: list[tuple[str, float]] = []
    task.evaluate(make_candidate(task), lambda phase, fraction: calls.append((phase, fraction)))
    assert calls
    assert all(phase == "training" and 0 < fraction <= 1 for phase, fraction in calls)


def test_the_cache_of_another_backbone_is_refused(
    tmp_path: Path, task: DetectionProxy, make_context: MakeContext
) -> None:
    context = make_context(tmp_path)
    backbone = context.model.backbone.model_copy(update={"width_mult": 0.5})
    other = DetectionProxy(
        task.recipe, replace(context, model=context.model.model_copy(update={"backbone": backbone}))
    )
    shutil.copy(task.cache.reader.path, other.setup.cache_path)
    with pytest.raises(InputError, match=r"backbone_recipe\.width_mult = 0\.5, but got 0\.35"):
        other.prepare()


def test_a_cache_cut_short_is_refused(
    tmp_path: Path, task: DetectionProxy, make_context: MakeContext
) -> None:
    other = DetectionProxy(task.recipe, make_context(tmp_path))
    path = other.setup.cache_path
    path.write_bytes(task.cache.reader.path.read_bytes()[:100_000])
    with pytest.raises(InputError, match=r"cut short.*built again"):
        other.prepare()


def test_the_fingerprint_covers_recipe_and_cache(
    task: DetectionProxy, make_recipe: MakeRecipe, make_context: MakeContext
) -> None:
    prints = {
        DetectionProxy(make_recipe(**changes), task.setup.context).fingerprint()
        for changes in ({}, {"iterations": 5}, {"views": 3}, {"seed": 1})
    }
    assert len(prints) == 4
    assert task.fingerprint() in prints


def test_the_description_names_data_and_weights(task: DetectionProxy) -> None:
    description = task.description()
    assert description["data"]["classes"] == list(task.setup.dataset.classes)
    assert description["data"]["fingerprint"] == task.setup.dataset.fingerprint()
    assert description["data"]["normalisation"] == "imagenet"
    assert description["weights"]["sha256"] is None


def test_fine_tuned_weights_and_caches_are_of_one_preset(
    prepared_folder: Path, make_context: MakeContext, make_recipe: MakeRecipe
) -> None:
    """Fine-tuning trains by all keys of the preset; cached records alone depend on those of the targets."""

    def path(finetune: bool, **overrides: object) -> Path:
        context = make_context(prepared_folder)
        model = context.model.model_copy(update={"preset_overrides": overrides})
        return DetectionProxy(make_recipe(finetune=finetune), replace(context, model=model)).setup.cache_path

    assert path(True) != path(True, box_loss="giou")
    assert path(False) == path(False, box_loss="giou")
    assert path(False) != path(False, centre_sampling_radius=1.5)


def test_dropped_boxes_are_told(task: DetectionProxy) -> None:
    assert task.notes() == task.setup.dataset.report.lines()


def test_latency_is_of_the_detector_on_a_crop(task: DetectionProxy, make_candidate: MakeCandidate) -> None:
    candidate = make_candidate(task)
    state = torch.get_rng_state()
    latency = task.latency(candidate.architecture, candidate.widths)
    assert 0 < latency.fastest_s <= latency.median_s <= latency.slowest_s
    assert latency.device == "cpu, 1 threads"
    assert torch.equal(torch.get_rng_state(), state)
