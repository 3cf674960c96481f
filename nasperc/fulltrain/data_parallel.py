"""Full training by several workers of Ray Train that share every batch (``nasperc fulltrain --workers N``).

gloo on CPU, NCCL on CUDA with one GPU a worker. The workers do the iterations, from the checkpoint to the
checkpoint; everything before and after is done by the command itself, as with one worker.
The one module of full training that imports Ray.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Read by Ray Train when it starts: how soon it sees that workers have ended, and how long they may take to import.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "300")

import torch
from torch import nn

from nasperc.errors import InputError
from nasperc.fulltrain.one_machine import OneMachine
from nasperc.recipe.reading import parse_recipe
from nasperc.recipe.root import Recipe
from nasperc.search.ray_start import on_one_machine, ray, start_ray
from nasperc.tasks.lookup import recipe_task
from nasperc.tasks.row import Job
from nasperc.training.freed_memory import keep_freed_memory
from nasperc.training.interrupt import DeferredInterrupt
from nasperc.training.loop import OnStep, train_part
from nasperc.training.peers import Peers
from nasperc.training.training_run import TrainingRun
from nasperc.whole_files import refuse_link
from proxy_tasks.failure import describe

# isort: split
# After ray_start, which sets what Ray reads when it is imported.
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

POLL_S = 0.2
# Of all workers, after one of them has died.
RESTARTS = 2
# What one worker cannot read interrupts the others, which write a checkpoint.
GRACE_S = 60.0


@contextmanager
def data_parallel(recipe: Recipe, prepared: Path, workers: int) -> Iterator[DataParallel]:
    """Ray with room for ``workers``: one that runs already is used, else one is started for the time being.

    Raises:
        InputError: more workers than images in a batch, or than GPUs where there are any; Ray does not start.
    """
    if workers > recipe.fulltrain.batch_size:
        raise InputError(
            "every worker needs an image of each batch",
            value=f"{workers} workers for batches of {recipe.fulltrain.batch_size}",
            where="--workers",
            repair="Use fewer workers, or raise fulltrain.batch_size.",
        )
    started = not ray.is_initialized()
    notes: tuple[str, ...] = ()
    if started:
        room = {"workers": workers, "dashboard": False}
        search = recipe.search.model_copy(update=room)
        notes = start_ray(search, repair="Leave --workers out to train without Ray.").notes
    try:
        yield DataParallel(recipe, prepared, workers, notes)
    finally:
        if started:
            ray.shutdown()


class DataParallel:
    """Trains one network after another with ``workers`` processes.

    Args:
        recipe: of the run, its paths absolute.
        prepared: folder of the synthetic data set, where the recipe names no other.
        workers: at most as many as images in a batch.
        notes: lines to print, of the Ray that was started.

    Raises:
        InputError: there are GPUs, but fewer than workers.
    """

    def __init__(self, recipe: Recipe, prepared: Path, workers: int, notes: tuple[str, ...] = ()) -> None:
        self._recipe, self._prepared, self._workers = recipe, prepared.resolve(), workers
        self.notes = notes
        if not on_one_machine():
            self.notes += (
                "on a cluster torch's workers listen on all interfaces, without a token (docs/cluster.md)",
            )
        gpus = ray.cluster_resources().get("GPU", 0.0)
        if 0 < gpus < workers:
            raise InputError(
                "every worker needs a GPU of its own",
                value=f"{workers} workers for {gpus:g} GPUs",
                where="--workers",
                repair="Use fewer workers, or hide the GPUs with CUDA_VISIBLE_DEVICES=''.",
            )
        self._use_gpu = gpus > 0

    def train(
        self, description: Mapping[str, Any], checkpoint: Path, data: str, on_step: OnStep | None
    ) -> None:
        """Bring ``checkpoint`` to the last iteration, from where it is or from the start.

        Args:
            description: of the network, by :meth:`nasperc.tasks.training.Training.describe`.
            checkpoint: on a file system that all workers share.
            data: fingerprint of the train split, which this process has read for it.
            on_step: called in this process with the iterations done and their losses.

        Raises:
            InputError: as in :func:`nasperc.training.loop.train`, raised in a worker.
            RuntimeError: workers failed in another way, or died, once more than they are started again.
            KeyboardInterrupt: Ctrl-C; the workers have written a checkpoint. At the second one they have not.
        """
        folder = tempfile.mkdtemp(prefix="nasperc-workers-")
        link = _Link.remote()  # type: ignore[attr-defined]
        config = {
            "recipe": self._recipe.to_dict(),
            "prepared": str(self._prepared),
            "description": dict(description),
            "checkpoint": str(checkpoint.resolve()),
            "data": data,
            # What one process would use, divided.
            "threads": max(1, torch.get_num_threads() // self._workers),
            "link": link,
        }
        # Where Ray Train writes.
        refuse_link(checkpoint.parent / "ray")
        trainer = TorchTrainer(
            _train_part,
            train_loop_config=config,
            torch_config=OneMachine(folder=folder) if on_one_machine() else TorchConfig(),
            scaling_config=ScalingConfig(num_workers=self._workers, use_gpu=self._use_gpu),
            run_config=RunConfig(
                name="ray",
                storage_path=str(checkpoint.parent.resolve()),
                # A worker that dies takes the others' collective calls along: all start again, from the
                # last checkpoint.
                failure_config=FailureConfig(max_failures=RESTARTS),
            ),
        )
        fit = _Fit(trainer)
        try:
            with DeferredInterrupt() as interrupt:
                failure = _follow(fit, link, interrupt, on_step)
        finally:
            # Workers that are still at it, after an error here or a second Ctrl-C, end by themselves.
            link.stop.remote()
            shutil.rmtree(checkpoint.parent / "ray", ignore_errors=True)
            shutil.rmtree(folder, ignore_errors=True)
        if failure is not None:
            raise failure
        if fit.error is not None:
            raise RuntimeError(f"workers died: {describe(fit.error)}") from fit.error
        if interrupt.requested:
            raise KeyboardInterrupt


class _Fit(threading.Thread):
    """Ray Train at work, so that the main thread can show progress and take Ctrl-C."""

    def __init__(self, trainer: TorchTrainer) -> None:
        super().__init__(name="ray-train", daemon=True)
        self._trainer = trainer
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self._trainer.fit()
        except Exception as error:
            self.error = error


def _follow(fit: _Fit, link: Any, interrupt: DeferredInterrupt, on_step: OnStep | None) -> InputError | None:
    """Pass on what the workers do until they end; the bad input that one of them met."""
    failed_at: float | None = None
    while True:
        alive = fit.is_alive()
        if interrupt.requested:
            link.stop.remote()
        steps, failure = ray.get(link.take.remote())
        if on_step is not None:
            for step, losses in steps:
                on_step(step, losses)
        if failure is not None and failed_at is None:
            failed_at = time.monotonic()
        if not alive or (failed_at is not None and time.monotonic() - failed_at > GRACE_S):
            return failure
        fit.join(POLL_S)


@ray.remote(num_cpus=0)
class _Link:
    """Between the command and the workers: losses and bad input go one way, the wish to stop the other."""

    def __init__(self) -> None:
        self._steps: list[tuple[int, dict[str, float]]] = []
        self._failure: InputError | None = None
        self._stopping = False

    def report(self, step: int, losses: dict[str, float]) -> bool:
        """An iteration is done; whether to stop."""
        self._steps.append((step, losses))
        return self._stopping

    def fail(self, failure: InputError) -> None:
        """Of several failures the first is the cause of the others."""
        self._failure = self._failure or failure

    def stop(self) -> None:
        """Ask the workers to end after the iteration that they are at."""
        self._stopping = True

    def take(self) -> tuple[list[tuple[int, dict[str, float]]], InputError | None]:
        """The iterations since the last call, and the failure."""
        steps, self._steps = self._steps, []
        return steps, self._failure


def _train_part(config: dict[str, Any]) -> None:
    """What each worker runs."""
    link = config["link"]
    try:
        _build_and_train(config)
    except InputError as error:
        # The others are interrupted by it and write a checkpoint: Ray must not end them for an exception here.
        ray.get(link.fail.remote(error))
    except KeyboardInterrupt:
        # Asked for, and a checkpoint was written. Anything else is Ray's: all workers start again.
        return


def _build_and_train(config: dict[str, Any]) -> None:
    keep_freed_memory()
    torch.set_num_threads(config["threads"])
    link, description, checkpoint = config["link"], config["description"], Path(config["checkpoint"])
    recipe = parse_recipe(config["recipe"], where=str(checkpoint))
    training = recipe_task(recipe).Training(recipe, Path(config["prepared"]), recipe, None)
    training.splits["train"].take_word(config["data"])
    job = Job("", "", training.part(description, where=str(checkpoint)))
    torch.manual_seed(recipe.seed)
    model: nn.Module
    model, _ = training.build(job)
    if next(model.parameters()).is_cuda:
        # It does not take CPU tensors: there, each worker's part of a batch has statistics of its own.
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    peers, interrupt = Peers.of_process_group(), DeferredInterrupt()
    answer: Any = None

    def on_step(step: int, losses: dict[str, float]) -> None:
        nonlocal answer
        # The answer to the last report has come meanwhile: no iteration waits for it.
        interrupt.requested |= answer is not None and ray.get(answer)
        answer = link.report.remote(step, losses)

    try:
        (plan,) = (
            phase.plan for phase in training.phases(model, job, peers) if phase.file == checkpoint.name
        )
        run = TrainingRun(model, plan, seed=recipe.seed, checkpoint=checkpoint, peers=peers)
        train_part(run, on_step if peers.rank == 0 else None, interrupt)
    finally:
        # The command has heard of the last iteration before this process ends.
        if answer is not None:
            ray.get(answer)
