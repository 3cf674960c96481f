"""One row of full training: a network is built, trained and measured, in a folder of its own."""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nasperc.errors import InputError
from nasperc.evaluation.latency import Latency, device_name
from nasperc.fulltrain.loss_log import LossLog
from nasperc.plain_files import read_json
from nasperc.plugins import is_plugin_file
from nasperc.tasks.lookup import PLUGIN
from nasperc.tasks.presentation import Presentation
from nasperc.tasks.row import METRICS, Activity, Job, Row, Workers
from nasperc.tasks.training import Split, Training
from nasperc.training.loop import DivergedError, TrainingResult, train
from nasperc.training.training_run import TrainingRun
from nasperc.whole_files import own_folder, remove_leftovers, write_whole


def run_entry(
    job: Job, task: Training[Any, Any], folder: Path, on_activity: Activity, workers: Workers | None = None
) -> Row:
    """Train and measure one network; a finished one is read back, an interrupted one continues exactly.

    ``folder`` gets ``checkpoint.pt``, ``log.csv`` (losses by iteration) and ``metrics.json`` (the row).

    Args:
        job: what to train.
        task: knows how.
        folder: of this row.
        on_activity: called with what is being done, the fraction done, and a text such as the loss.
        workers: processes that do the iterations; None: they are done here.

    Raises:
        InputError: bad input that every row shares: weights, images, a folder of another recipe.
        KeyboardInterrupt: a checkpoint was written.
    """
    torch.manual_seed(task.recipe.seed)
    model, known = task.build(job)
    shared: dict[str, Any] = {
        "name": job.name,
        "rank": job.rank,
        "hash": job.hash,
        "widths": job.widths,
        "reward": job.reward,
        "cost_size": task.size,
        **known,
    }
    remove_leftovers(own_folder(folder))
    try:
        measured = _train_and_measure(model, job, task, folder, on_activity, workers)
        row = Row(**shared, status="done", **measured)
    except DivergedError as error:
        row = Row(**shared, status="failed", reason=str(error))
    except InputError:
        raise
    # A searched network may fail in ways that nobody foresaw (out of memory, an operation without a kernel):
    # its reason stands in the table, and the other rows go on.
    except Exception as error:
        write_whole(folder / "error.txt", traceback.format_exc())
        first_line = (str(error).splitlines() or [""])[0]
        row = Row(
            **shared, status="failed", reason=f"{type(error).__name__}: {first_line} ({folder}/error.txt)"
        )
    content = {
        **asdict(row),
        "measured_on": {name: split.fingerprint() for name, split in task.splits.items()},
    }
    write_whole(folder / METRICS, json.dumps(content, indent=1) + "\n")
    return row


def _train_and_measure(
    model: nn.Module,
    job: Job,
    task: Training[Any, Any],
    folder: Path,
    on_activity: Activity,
    workers: Workers | None,
) -> dict[str, Any]:
    result = _train(model, job, task, folder, on_activity, workers)
    if result.resumed_at < result.iterations:
        _require_unchanged(task.splits["train"], folder)
    finished_before = result.resumed_at == result.iterations
    before = _read_row(folder / METRICS) if finished_before else {}
    metrics = _measured_before(before, task.splits, task.presentation)
    for name in task.splits:
        if name != "train" and name not in metrics:
            metrics[name] = task.measure(model, name, on_activity)
            task.splits[name].check_unchanged()
    latency = _latency_before(before, task.size)
    if latency is None:
        on_activity("measuring latency", 0.0, "")
        latency = task.latency(model)._asdict()
    return {
        "seconds": result.seconds,
        "iterations": result.iterations,
        "pixels_known": result.pixels_known,
        "metrics": metrics,
        "latency": latency,
    }


def _train(
    model: nn.Module,
    job: Job,
    task: Training[Any, Any],
    folder: Path,
    on_activity: Activity,
    workers: Workers | None,
) -> TrainingResult:
    """All phases, each from its checkpoint; a finished one is loaded.

    Raises:
        InputError: an image cannot be read, a checkpoint is of another training.
        DivergedError: a loss is not finite.
        KeyboardInterrupt: a checkpoint was written.
    """
    total, seconds, done, resumed_at, pixels_known = task.iterations(job), 0.0, 0, 0, True
    named = task.recipe.task.name if task.recipe.task is not None else ""
    with LossLog(folder / "log.csv") as log:
        for phase in task.phases(model, job):
            plan = phase.plan
            if is_plugin_file(named):
                # Whoever reads the checkpoint must know whose it is.
                plan = replace(plan, identity={**plan.identity, PLUGIN: named})

            def on_step(step: int, losses: dict[str, float], before: int = done) -> None:
                log.write(before + step, losses)
                on_activity("training", (before + step) / total, f"loss {log.mean():.3f}")

            checkpoint = folder / phase.file
            run = TrainingRun(model, plan, seed=task.recipe.seed, checkpoint=checkpoint)
            elsewhere = None
            if workers is not None:
                data = task.splits["train"].fingerprint()
                elsewhere = partial(workers, task.describe(job), checkpoint, data)
            result = train(run, on_step=on_step, elsewhere=elsewhere)
            seconds += result.seconds
            done += result.iterations
            resumed_at += result.resumed_at
            pixels_known &= result.pixels_known
    return TrainingResult(seconds, done, resumed_at, pixels_known)


def _require_unchanged(split: Split, folder: Path) -> None:
    """Check that images are those that checkpoints say they were trained on; these are put aside where they are not.

    Raises:
        InputError: one has changed during the training.
    """
    try:
        split.check_unchanged()
    except InputError as error:
        for checkpoint in folder.glob("*.pt"):
            checkpoint.replace(checkpoint.with_suffix(".changed-images"))
        raise InputError(
            error.rule,
            value=error.value,
            where=error.where,
            repair=f"{error.repair} What was trained is kept in {folder}/*.changed-images.",
        ) from error


def _read_row(path: Path) -> dict[str, Any]:
    """What an earlier run wrote; nothing if that cannot be read, since measuring again costs minutes only."""
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _measured_before(
    row: Mapping[str, Any], splits: Mapping[str, Split], presentation: Presentation
) -> dict[str, Any]:
    """Metrics of an earlier run, of those splits that are still the same."""
    try:
        metrics, measured_on = row["metrics"], row["measured_on"]
        same = {k: v for k, v in metrics.items() if k in splits and measured_on[k] == splits[k].fingerprint()}
        found = {name: presentation.measured(values) for name, values in same.items()}
        return {name: values for name, values in found.items() if values is not None}
    except (KeyError, TypeError, AttributeError):
        # Nothing, or an older or broken file: trusting it could cost the table.
        return {}


def _latency_before(row: Mapping[str, Any], size: tuple[int, int]) -> dict[str, Any] | None:
    """Latency of an earlier run at the same size, on a device of the same name with as many threads."""
    latency, late = row.get("latency"), set(Latency._field_defaults)
    # An older file has not all fields.
    if not isinstance(latency, dict) or set(latency) | late != set(Latency._fields):
        return None
    numbers = (
        value for key, value in latency.items() if key != "device" and (key not in late or value is not None)
    )
    if not all(type(value) in (int, float) and value >= 0 for value in numbers):
        return None
    same = row.get("cost_size") == list(size) and latency["device"] == device_name()
    return latency if same else None
