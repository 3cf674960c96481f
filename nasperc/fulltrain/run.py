"""Full training of what a search found, beside its baselines (``nasperc fulltrain``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from nasperc.assembly.detector import Searched
from nasperc.errors import InputError
from nasperc.fulltrain.detection_task import DetectionTask
from nasperc.fulltrain.display import Display
from nasperc.fulltrain.entries import parse_width, select, training_recipe
from nasperc.fulltrain.entry_run import run_entry
from nasperc.fulltrain.results import Results, rank_rows, to_tables, write_results
from nasperc.fulltrain.row import CHECKPOINT, Job, Row, Workers
from nasperc.fulltrain.task import FullTask
from nasperc.fulltrain.trained_segmenter import TASK as VIDEO_SEGMENTATION
from nasperc.fulltrain.video_task import VideoTask
from nasperc.search.recipe import Recipe
from nasperc.search.run_folder import RunFolder
from nasperc.search.sample import sample_controller
from nasperc.search.top10 import Top10File, read_top10

PICKS = ("best", "controller")
# By the proxy task that the search measured with: the one place that tells the tasks apart.
_KINDS: dict[str, type[FullTask[Any, Any]]] = {VIDEO_SEGMENTATION: VideoTask}
# The thesis trains two cells (6.4.2).
SAMPLED = 2


def fulltrain(
    arch: Path,
    *,
    folder: Path | None = None,
    top: int | None = None,
    pick: str = "best",
    width: str | None = None,
    task: str | None = None,
    overrides: Sequence[Mapping[str, Any]] = (),
    settings: Sequence[str] = (),
    workers: int = 1,
    console: Console | None = None,
    say_next: bool = True,
) -> Results:
    """Train the entries of a ``top10.json`` and the task's baselines, measure, rank, write the results.

    Every row has the same schedule and seed. Typed again after an interruption, it continues exactly: rows that are
    done are kept. A row that fails is reported, and the others go on.

    Args:
        arch: the ``top10.json``.
        folder: where the results go; None: ``fulltrain`` beside ``arch``.
        top: number of entries, by rank; None: all. Of ``pick="controller"`` the number of samples; None: 2.
        pick: ``best``: the entries; ``controller``: architectures drawn from the trained controller of the run.
        width: ``128``, ``128-256``; None: those of the entries.
        task: the model that the architecture is put into; None: the task's own. Of detection only ``fcos`` yet.
        overrides: nested dicts laid over the recipe of the search, e.g. ``{"data": {"path": "..."}}``.
        settings: ``key.sub=value`` strings laid over that.
        workers: processes that share every batch, by Ray Train; 1: this one alone, without Ray.
        console: for progress and tables; None: standard output.
        say_next: end by saying what to type next.

    Returns:
        The ranking, also written as ``results.json`` and ``results.md`` (and a plot of reward and metric).

    Raises:
        InputError: bad input; every row failed.
        KeyboardInterrupt: interrupted; the row in training has a checkpoint.
    """
    console = console or Console()
    if pick not in PICKS:
        raise InputError(
            f"what is trained must be one of {', '.join(PICKS)}",
            value=pick,
            where="--pick",
            repair="Choose one of them.",
        )
    top10 = read_top10(arch)
    kind = _KINDS.get(top10.task, DetectionTask)
    if task is not None and task not in kind.names:
        raise InputError(
            f"a task must be one of {', '.join(kind.names)}",
            value=task,
            where="--task",
            repair="Choose one of them, or leave it out.",
        )
    recipe = training_recipe(top10, overrides, settings)
    folder = arch.parent / "fulltrain" if folder is None else folder
    prepared = RunFolder(arch.parent).prepared
    training = kind(recipe, prepared, top10.recipe)
    warnings = training.check_workers(workers)
    _check_classes(top10, training)
    jobs = _sampled_jobs(top10, top, width) if pick == "controller" else _entry_jobs(top10, top, width)
    jobs += training.baselines(jobs)
    for line in [*training.notes(), _opening(top10, training, jobs), *warnings]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    rows: list[Row] = []
    with _workers(recipe, prepared, workers) as pool, Display(console) as display:
        try:
            display.start_row("all rows")
            training.prepare(display.update)
            for job in jobs:
                display.start_row(job.name, training.iterations(job))
                row = run_entry(job, training, folder / job.folder, display.update, pool)
                rows.append(row)
                results = rank_rows(rows, tuple(training.splits), training.presentation)
                write_results(results, folder, _about(top10, training))
                outcome = f"{results.presentation.heading} {100 * results.reported(row):.1f}"
                if row.status == "failed":
                    outcome = row.reason
                console.print(f"{row.name}: {row.status}, {outcome}", highlight=False, markup=False)
        except KeyboardInterrupt:
            console.print("interrupted; the same command continues", highlight=False)
            raise
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
    checkpoint = folder / next(job.folder for job in jobs if job.name == best.name) / CHECKPOINT
    said = [str(folder / "results.md"), str(checkpoint)]
    if say_next and best.rank is not None:
        # Where export would not look by itself.
        elsewhere = f" --checkpoint {checkpoint}" if width or folder != arch.parent / "fulltrain" else ""
        said.append(f"next: nasperc export architecture {arch} --rank {best.rank}{elsewhere}")
    for line in said:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
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


def _check_classes(top10: Top10File, training: FullTask[Any, Any]) -> None:
    """The same folder must still have the classes of the search; another one may have others."""
    path, found = training.recipe.data.path, training.splits["train"].classes
    searched = tuple(top10.data.get("classes", found))
    if path == top10.recipe.data.path and searched != found:
        raise InputError(
            "a data set must have the classes that it had in the search",
            value=f"{', '.join(found)} instead of {', '.join(searched)}",
            where=str(path),
            repair="List the classes in a file and pass it as --set data.classes=FILE.",
        )


def _entry_jobs(top10: Top10File, top: int | None, width: str | None) -> list[Job]:
    """The entries by rank."""
    widths = None if width is None else parse_width(width, top10.space.parts)
    jobs = []
    for entry in select(top10.entries, top):
        searched = Searched(top10.space, entry.architecture, widths or entry.widths)
        # The plain name is where `nasperc export` looks for trained weights of an entry.
        place = f"rank{entry.rank:02d}" if width is None else f"rank{entry.rank:02d}-{width}"
        jobs.append(Job(f"rank {entry.rank}", place, searched, entry.rank, entry.hash, entry.reward))
    return jobs


def _sampled_jobs(top10: Top10File, count: int | None, width: str | None) -> list[Job]:
    """Architectures drawn from the trained controller."""
    widths = None if width is None else parse_width(width, top10.space.parts)
    jobs = []
    drawn = sample_controller(RunFolder(top10.path.parent), count or SAMPLED)
    for number, sample in enumerate(drawn, start=1):
        searched = Searched(top10.space, sample.architecture, widths or sample.widths)
        place = f"controller-{sample.hash[:8]}" + ("" if width is None else f"-{width}")
        jobs.append(Job(f"sample {number}", place, searched, None, sample.hash, sample.reward))
    return jobs


def _opening(top10: Top10File, training: FullTask[Any, Any], jobs: Sequence[Job]) -> str:
    entries = [job for job in jobs if job.hash is not None]
    ranked = entries[0].rank is not None
    chosen = (
        f"{len(entries)} of {len(top10.entries)} entries of {top10.path}"
        if ranked
        else f"{len(entries)} architectures drawn from the controller of {top10.path.parent}"
    )
    beside = "".join(f", {job.name}" for job in jobs if job.hash is None)
    counts = ", ".join(f"{len(split)} {name}" for name, split in training.splits.items())
    name = training.splits["train"].name
    return f"{chosen}{beside}, {training.budget()}, on {name} ({counts} {training.examples})"


def _about(top10: Top10File, training: FullTask[Any, Any]) -> dict[str, Any]:
    splits = training.splits
    return {
        "top10": str(top10.path),
        "search_cost_hours": top10.search_cost_hours,
        "recipe": training.recipe.to_dict(),
        "data": {
            "name": splits["train"].name,
            "classes": list(splits["train"].classes),
            "images": {name: len(split) for name, split in splits.items()},
            "fingerprints": {name: split.fingerprint() for name, split in splits.items()},
        },
        **training.about(),
    }
