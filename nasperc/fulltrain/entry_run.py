"""One row of full training: a decoder is built, trained and measured, in a folder of its own."""

from __future__ import annotations

import json
import math
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from nasperc.assembly.detector import Baseline, Decoder, build_detector
from nasperc.data.dataset import DetectionDataset
from nasperc.data.normalisation import get_normalisation
from nasperc.errors import InputError
from nasperc.evaluation.coco_ap import CocoMetrics, coco_ap
from nasperc.evaluation.cost import measure_cost
from nasperc.evaluation.latency import Latency, device_name, measure_latency
from nasperc.fulltrain.baseline import cost_size
from nasperc.fulltrain.loss_log import LossLog
from nasperc.fulltrain.trained_detector import describe
from nasperc.models.detector import Detector
from nasperc.plain_files import read_json
from nasperc.search.recipe import Recipe
from nasperc.search.run_folder import write_atomically
from nasperc.training.detect import detect_dataset
from nasperc.training.detection import train
from nasperc.training.device import to_device
from nasperc.training.loop import DivergedError, OnStep

CHECKPOINT, METRICS = "checkpoint.pt", "metrics.json"
# A large network on one thread takes seconds an image.
LATENCY_RUNS, LATENCY_WARMUP = 5, 2

Activity = Callable[[str, float, str], None]
# Bring the checkpoint of a described network to the last iteration: (description, checkpoint, on_step).
Workers = Callable[[dict[str, Any], Path, OnStep | None], None]


@dataclass(frozen=True)
class Job:
    """What is to be trained, and the name of its folder. The baseline has no rank, hash and reward."""

    name: str
    folder: str
    decoder: Decoder
    rank: int | None = None
    hash: str | None = None
    reward: float | None = None

    @property
    def widths(self) -> dict[str, int]:
        """Channels by part."""
        if isinstance(self.decoder, Baseline):
            return {"fpn": self.decoder.fpn_width, "head": self.decoder.head_width}
        return dict(self.decoder.widths)


@dataclass(frozen=True)
class Row:
    """The outcome. ``metrics``: pycocotools' twelve numbers and AP by class, by split (val, test).

    ``flops`` and ``params`` as in thesis Table 7.2, at ``cost_size`` (H, W); ``seconds`` of training. ``latency``:
    the fields of :class:`nasperc.evaluation.latency.Latency` at ``cost_size``, of a row that is done.
    """

    name: str
    status: Literal["done", "failed"]
    rank: int | None
    hash: str | None
    widths: dict[str, int]
    depth: int | None
    reward: float | None
    flops: int
    params: int
    cost_size: tuple[int, int]
    seconds: float = 0.0
    iterations: int = 0
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    latency: dict[str, Any] | None = None
    reason: str = ""

    def ap(self, split: str) -> float:
        """AP on a split, or minus infinity where there is none."""
        value = self.metrics.get(split, {}).get("ap")
        return -math.inf if value is None else float(value)


def run_entry(
    job: Job,
    recipe: Recipe,
    splits: Mapping[str, DetectionDataset],
    folder: Path,
    on_activity: Activity,
    workers: Workers | None = None,
) -> Row:
    """Train and measure one decoder; a finished one is read back, an interrupted one continues exactly.

    ``folder`` gets ``checkpoint.pt``, ``log.csv`` (losses by iteration) and ``metrics.json`` (the row).

    Args:
        job: what to train.
        recipe: of the run; its sections ``model``, ``fulltrain`` and ``seed`` count.
        splits: ``train``, and ``val`` or ``test`` or both.
        folder: of this row.
        on_activity: called with what is being done, the fraction done, and a text such as the loss.
        workers: processes that do the iterations; None: they are done here.

    Raises:
        InputError: bad input that every row shares: weights, images, a folder of another recipe.
        KeyboardInterrupt: a checkpoint was written.
    """
    size = cost_size(recipe.fulltrain.test_short_side)
    torch.manual_seed(recipe.seed)
    model = build_detector(recipe.model, job.decoder, len(splits["train"].classes))
    cost = measure_cost(model, size)
    depth = job.decoder.depth if isinstance(job.decoder, Baseline) else None
    shared: dict[str, Any] = {
        "name": job.name,
        "rank": job.rank,
        "hash": job.hash,
        "widths": job.widths,
        "depth": depth,
        "reward": job.reward,
        "flops": cost.flops,
        "params": cost.params_trainable,
        "cost_size": size,
    }
    to_device(model)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        measured = _train_and_measure(model, job, recipe, splits, folder, on_activity, workers)
        row = Row(**shared, status="done", **measured)
    except DivergedError as error:
        row = Row(**shared, status="failed", reason=str(error))
    except InputError:
        raise
    # A searched network may fail in ways that nobody foresaw (out of memory, an operation without a kernel):
    # its reason stands in the table, and the other rows go on.
    except Exception as error:
        (folder / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
        first_line = (str(error).splitlines() or [""])[0]
        row = Row(
            **shared, status="failed", reason=f"{type(error).__name__}: {first_line} ({folder}/error.txt)"
        )
    content = {**asdict(row), "measured_on": {name: split.fingerprint() for name, split in splits.items()}}
    write_atomically(folder / METRICS, json.dumps(content, indent=1) + "\n")
    return row


def _train_and_measure(
    model: Detector,
    job: Job,
    recipe: Recipe,
    splits: Mapping[str, DetectionDataset],
    folder: Path,
    on_activity: Activity,
    workers: Workers | None,
) -> dict[str, Any]:
    settings, checkpoint = recipe.fulltrain, folder / CHECKPOINT
    description = describe(recipe.model, job.decoder, recipe.space)
    normalisation = get_normalisation(recipe.model.backbone.input_normalisation())
    with LossLog(folder / "log.csv") as log:

        def on_step(step: int, losses: dict[str, float]) -> None:
            log.write(step, losses)
            on_activity("training", step / settings.iterations, f"loss {log.mean():.3f}")

        result = train(
            model,
            splits["train"],
            settings,
            seed=recipe.seed,
            normalisation=normalisation,
            checkpoint=checkpoint,
            description=description,
            on_step=on_step,
            elsewhere=None if workers is None else partial(workers, description, checkpoint),
        )
    finished_before = result.resumed_at == result.iterations
    before = _read_row(folder / METRICS) if finished_before else {}
    metrics = _measured_before(before, splits)
    for name, dataset in splits.items():
        if name == "train" or name in metrics:
            continue
        found = detect_dataset(
            model,
            dataset,
            normalisation,
            settings.test_short_side,
            settings.max_long_side,
            on_image=partial(_report_image, on_activity, name, len(dataset)),
        )
        metrics[name] = coco_ap(dataset.coco_ground_truth(), found).as_dict()
    size = cost_size(settings.test_short_side)
    latency = _latency_before(before, size)
    if latency is None:
        on_activity("measuring latency", 0.0, "")
        latency = measure_latency(model, size, runs=LATENCY_RUNS, warmup=LATENCY_WARMUP)._asdict()
    return {
        "seconds": result.seconds,
        "iterations": result.iterations,
        "metrics": metrics,
        "latency": latency,
    }


def _report_image(on_activity: Activity, split: str, images: int, done: int) -> None:
    on_activity(f"measuring on {split}", done / images, f"{done} of {images} images")


def _read_row(path: Path) -> dict[str, Any]:
    """What an earlier run wrote; nothing if that cannot be read, since measuring again costs minutes only."""
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _measured_before(row: Mapping[str, Any], splits: Mapping[str, DetectionDataset]) -> dict[str, Any]:
    """Metrics of an earlier run, of those splits that are still the same."""
    try:
        metrics, measured_on = row["metrics"], row["measured_on"]
        same = {k: v for k, v in metrics.items() if k in splits and measured_on[k] == splits[k].fingerprint()}
        return {name: values for name, values in same.items() if _is_measured(values)}
    except (KeyError, TypeError, AttributeError):
        # Nothing, or an older or broken file: trusting it could cost the table.
        return {}


def _is_measured(values: Any) -> bool:
    """Whether these are pycocotools' numbers, and those by class."""
    try:
        by_name = asdict(CocoMetrics(**values))
        numbers = [*by_name.pop("per_class").values(), *by_name.values()]
    except (TypeError, AttributeError):
        return False
    return all(type(number) in (int, float) for number in numbers)


def _latency_before(row: Mapping[str, Any], size: tuple[int, int]) -> dict[str, Any] | None:
    """Latency of an earlier run at the same size, on a device of the same name with as many threads."""
    latency = row.get("latency")
    if not isinstance(latency, dict) or set(Latency._fields) != set(latency):
        return None
    numbers = (value for key, value in latency.items() if key != "device")
    if not all(type(value) in (int, float) and value >= 0 for value in numbers):
        return None
    same = row.get("cost_size") == list(size) and latency["device"] == device_name()
    return latency if same else None
