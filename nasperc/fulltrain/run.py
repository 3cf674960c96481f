"""Full training of what a search found, beside baselines at the nearest cost (``nasperc fulltrain``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from nasperc.assembly.datasets import open_split
from nasperc.assembly.detector import BASELINE_NAMES, Baseline, Searched, build_detector
from nasperc.data.dataset import DetectionDataset
from nasperc.data.formats import has_split
from nasperc.data.recipe import DataRecipe
from nasperc.errors import InputError
from nasperc.evaluation.cost import measure_cost
from nasperc.fulltrain.baseline import baseline_costs, choose_baseline, cost_size
from nasperc.fulltrain.display import Display
from nasperc.fulltrain.entries import parse_width, select, training_recipe
from nasperc.fulltrain.entry_run import CHECKPOINT, Job, Workers, run_entry
from nasperc.fulltrain.results import Results, rank_rows, to_tables, write_results
from nasperc.search.recipe import Recipe
from nasperc.search.run_folder import RunFolder
from nasperc.search.top10 import Top10File, read_top10

TASKS = ("fcos",)
ON_CPU = "On CPU a BatchNorm in training sees one worker's part of a batch only: the losses differ from one worker's."


def fulltrain(
    arch: Path,
    *,
    folder: Path | None = None,
    top: int | None = None,
    width: str | None = None,
    task: str = "fcos",
    overrides: Sequence[Mapping[str, Any]] = (),
    settings: Sequence[str] = (),
    workers: int = 1,
    console: Console | None = None,
    say_next: bool = True,
) -> Results:
    """Train the entries of a ``top10.json`` and the recipe's baselines on images, measure, rank, write the results.

    Every row has the same schedule, seed and preset. Typed again after an interruption, it continues exactly:
    rows that are done are kept. A row that fails is reported, and the others go on.

    Args:
        arch: the ``top10.json``.
        folder: where the results go; None: ``fulltrain`` beside ``arch``.
        top: number of entries, by rank; None: all.
        width: ``128``, ``128-256``; None: those of the entries.
        task: the model that the decoder is put into; only ``fcos`` yet.
        overrides: nested dicts laid over the recipe of the search, e.g. ``{"data": {"path": "..."}}``.
        settings: ``key.sub=value`` strings laid over that.
        workers: processes that share every batch, by Ray Train; 1: this one alone, without Ray.
        console: for progress and tables; None: standard output.
        say_next: end by saying what to type next.

    Returns:
        The ranking, also written as ``results.json`` and ``results.md`` (and ``reward_ap.png``).

    Raises:
        InputError: bad input; every row failed.
        KeyboardInterrupt: interrupted; the row in training has a checkpoint.
    """
    console = console or Console()
    if task not in TASKS:
        raise InputError(
            f"a task must be one of {', '.join(TASKS)}",
            value=task,
            where="--task",
            repair="Choose one of them.",
        )
    top10 = read_top10(arch)
    recipe = training_recipe(top10, overrides, settings)
    folder = arch.parent / "fulltrain" if folder is None else folder
    prepared = RunFolder(arch.parent).prepared
    splits = _open_splits(recipe.data, prepared)
    _check_classes(top10, recipe, splits["train"])
    jobs = _jobs(top10, recipe, top, width, len(splits["train"].classes))
    for line in dict.fromkeys(line for split in splits.values() for line in split.report.lines()):
        console.print(line, highlight=False, markup=False)
    counts = ", ".join(f"{len(split)} {name}" for name, split in splits.items())
    beside = "".join(f", {job.name}" for job in jobs if job.rank is None)
    console.print(
        f"{sum(job.rank is not None for job in jobs)} of {len(top10.entries)} entries of {arch}{beside}, "
        f"{recipe.fulltrain.iterations} iterations each, on {splits['train'].name} ({counts} images)",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    if workers > 1 and not torch.cuda.is_available():
        console.print(ON_CPU, highlight=False, soft_wrap=True)
    rows = []
    with (
        _workers(recipe, prepared, workers) as pool,
        Display(console, recipe.fulltrain.iterations) as display,
    ):
        for job in jobs:
            display.start_row(job.name)
            try:
                row = run_entry(job, recipe, splits, folder / job.folder, display.update, pool)
            except KeyboardInterrupt:
                console.print("interrupted; the same command continues", highlight=False)
                raise
            rows.append(row)
            results = rank_rows(rows, tuple(splits))
            write_results(results, folder, _about(top10, recipe, splits))
            outcome = f"AP {100 * row.ap(results.reported_on):.1f}" if row.status == "done" else row.reason
            console.print(f"{row.name}: {row.status}, {outcome}", highlight=False, markup=False)
    for table in to_tables(results):
        console.print(table)
    agreement = results.agreement()
    if agreement is not None:
        console.print(agreement, highlight=False)
    best = results.best
    if best is None:
        raise InputError(
            "at least one entry must train to its end",
            value=results.rows[-1].reason or "none did",
            where=folder / "results.json",
            repair="Change the recipe section fulltrain (--set fulltrain.learning_rate=...) and start again.",
        )
    checkpoint = folder / next(job.folder for job in jobs if job.rank == best.rank) / CHECKPOINT
    # Where export would not look by itself.
    elsewhere = f" --checkpoint {checkpoint}" if width or folder != arch.parent / "fulltrain" else ""
    console.print(f"{folder / 'results.md'}\n{checkpoint}", highlight=False, markup=False, soft_wrap=True)
    if say_next:
        console.print(
            f"next: nasperc export architecture {arch} --rank {best.rank}{elsewhere}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    return results


@contextmanager
def _workers(recipe: Recipe, prepared: Path, count: int) -> Iterator[Workers | None]:
    """What does the iterations instead of this process; None for one worker, who needs no Ray."""
    if count == 1:
        yield None
        return
    from nasperc.fulltrain.data_parallel import data_parallel

    with data_parallel(recipe, prepared, count) as parallel:
        yield parallel.train


def _open_splits(data: DataRecipe, prepared: Path) -> dict[str, DetectionDataset]:
    """``train``, and of ``val`` and ``test`` those that there are.

    Raises:
        InputError: there is neither val nor test; anything wrong with the files.
    """
    splits = {"train": open_split(data, "train", prepared)}
    if data.path is None or has_split(data.path, data.val_split, data.format):
        splits["val"] = open_split(data, "val", prepared)
    if data.path is None or has_split(data.path, data.test_split, data.format):
        splits["test"] = open_split(data, "test", prepared)
    if len(splits) == 1:
        raise InputError(
            "a data set for full training needs a split to measure on",
            value=f"neither {data.val_split} nor {data.test_split}",
            where=str(data.path),
            repair="Add one, or name the split with --set data.val_split=NAME.",
        )
    return splits


def _check_classes(top10: Top10File, recipe: Recipe, train: DetectionDataset) -> None:
    """The same folder must still have the classes of the search; another one may have others."""
    searched = tuple(top10.data.get("classes", train.classes))
    if recipe.data.path == top10.recipe.data.path and searched != train.classes:
        raise InputError(
            "a data set must have the classes that it had in the search",
            value=f"{', '.join(train.classes)} instead of {', '.join(searched)}",
            where=str(recipe.data.path),
            repair="List the classes in a file and pass it as --set data.classes=FILE.",
        )


def _jobs(
    top10: Top10File, recipe: Recipe, top: int | None, width: str | None, num_classes: int
) -> list[Job]:
    """The entries by rank, then the baselines at the cost of the first of them."""
    widths = None if width is None else parse_width(width, top10.space.parts)
    jobs = []
    for entry in select(top10.entries, top):
        decoder = Searched(top10.space, entry.architecture, entry.widths if widths is None else widths)
        # The plain name is where `nasperc export` looks for trained weights of an entry.
        place = f"rank{entry.rank:02d}" if width is None else f"rank{entry.rank:02d}-{width}"
        jobs.append(Job(f"rank {entry.rank}", place, decoder, entry.rank, entry.hash, entry.reward))
    size = cost_size(recipe.fulltrain.test_short_side)
    best = build_detector(recipe.model, jobs[0].decoder, num_classes, load_weights=False)
    target = measure_cost(best, size).flops
    for kind in dict.fromkeys(recipe.baselines):
        like = Baseline(kind=kind, anchor_scale=recipe.fulltrain.sizes_of_interest_scale)
        baseline = choose_baseline(target, baseline_costs(recipe.model, num_classes, size, like))
        place = f"{kind}-{baseline.fpn_width}-{baseline.head_width}x{baseline.depth}"
        jobs.append(Job(BASELINE_NAMES[kind], place, baseline))
    return jobs


def _about(top10: Top10File, recipe: Recipe, splits: Mapping[str, DetectionDataset]) -> dict[str, Any]:
    return {
        "top10": str(top10.path),
        "search_cost_hours": top10.search_cost_hours,
        "recipe": recipe.to_dict(),
        "data": {
            "name": splits["train"].name,
            "classes": list(splits["train"].classes),
            "images": {name: len(split) for name, split in splits.items()},
            "fingerprints": {name: split.fingerprint() for name, split in splits.items()},
        },
    }
