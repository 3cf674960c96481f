"""Full training of what a search found, beside its baselines (``nasperc fulltrain``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from nasperc.errors import InputError
from nasperc.file_lock import FileLock
from nasperc.fulltrain.display import Display
from nasperc.fulltrain.entries import training_recipe
from nasperc.fulltrain.entry_run import run_entry
from nasperc.fulltrain.jobs import controller_jobs, entry_jobs, random_jobs
from nasperc.fulltrain.results import Results, rank_rows, to_tables, write_results
from nasperc.old_files import PIXELS_NOT_KNOWN
from nasperc.plain_console import PlainConsole
from nasperc.plugins import name_plugins
from nasperc.recipe.root import ComponentSection, Recipe
from nasperc.search.run_folder import RunFolder
from nasperc.search.top10 import Top10File, read_top10
from nasperc.shown_text import printable
from nasperc.tasks.lookup import own_task, recipe_task, task_section
from nasperc.tasks.presentation import percent
from nasperc.tasks.row import CHECKPOINT, Job, Row, Workers
from nasperc.tasks.training import Found, Training, selecting
from nasperc.torch_files import file_sha256
from nasperc.whole_files import refuse_link

# Of the results, beside a top10.json.
FOLDER = "fulltrain"
# Beside the results, which one command at a time writes.
LOCK = "fulltrain.lock"
ONE_TRAINING = "a folder of results has one full training at a time"
HOW_TO_TAKE_OVER = "the same command with --take-over"
PICKS = ("best", "controller")


def fulltrain(
    arch: Path,
    *,
    folder: Path | None = None,
    top: int | None = None,
    pick: str = "best",
    random: int = 0,
    width: str | None = None,
    task: str | None = None,
    overrides: Sequence[Mapping[str, Any]] = (),
    settings: Sequence[str] = (),
    workers: int = 1,
    console: Console | None = None,
    say_next: bool = True,
    take_over: bool = False,
) -> Results:
    """Train the entries of a ``top10.json`` and the task's baselines, measure, rank, write the results.

    Every row has the same schedule and seed. Typed again after an interruption, it continues exactly: rows that are
    done are kept. A row that fails is reported, and the others go on.

    Args:
        arch: the ``top10.json``.
        folder: where the results go; None: ``fulltrain`` beside ``arch``, of another task than the search's own
            ``fulltrain-MODEL``.
        top: number of entries, by rank; None: all. Of ``pick="controller"`` the number of samples; None: 2.
        pick: ``best``: the entries; ``controller``: architectures drawn from the trained controller of the run.
        random: number of random architectures beside them.
        width: ``128``, ``128-256``; None: those of the entries.
        task: the task, or a model of one, that the architecture is put into; None: that of the search.
        overrides: nested dicts laid over the recipe of the search, e.g. ``{"data": {"path": "..."}}``.
        settings: ``key.sub=value`` strings laid over that.
        workers: processes that share every batch, by Ray Train; 1: this one alone, without Ray.
        console: for progress and tables; None: standard output.
        say_next: end by saying what to type next.
        take_over: nothing trains there any more on the host that the lock names.

    Returns:
        The ranking, also written as ``results.json`` and ``results.md`` (and a plot of reward and metric).

    Raises:
        InputError: bad input; another full training is at work in the folder; every row failed.
        KeyboardInterrupt: interrupted; the row in training has a checkpoint.
    """
    console = console or PlainConsole()
    if pick not in PICKS:
        raise InputError(
            f"what is trained must be one of {', '.join(PICKS)}",
            value=pick,
            where="--pick",
            repair="Choose one of them.",
        )
    top10 = read_top10(arch)
    if task is not None:
        typed = {"task": task_section(task)}
        name_plugins(typed)
        overrides = [*overrides, typed]
    recipe = training_recipe(top10, overrides, settings)
    folder = results_folder(arch.parent, top10.recipe, task) if folder is None else folder
    if folder.parent == arch.parent:
        # Within the run's folder; one that was named may lie, and be, anywhere.
        refuse_link(folder)
    prepared = RunFolder(arch.parent).prepared
    kind = recipe_task(recipe)
    if not kind.takes(top10.space):
        raise InputError(
            f"the task {task or kind.name} takes no architectures of the space {top10.space.name}",
            value=", ".join(top10.space.parts),
            where=arch,
            repair="Leave --task out, or train what another search found.",
        )
    jobs = (controller_jobs if pick == "controller" else entry_jobs)(top10, top, width)
    jobs += random_jobs(top10, random, recipe.seed, width)
    assert jobs[0].part is not None
    # What can never be built is refused before data are opened, made or written.
    kind.require_fit(recipe, jobs[0].part)
    training = kind.Training(recipe, prepared, top10.recipe, Found(top10.data, top10.weights))
    warnings = training.check_workers(workers)
    _check_classes(top10, training)
    _check_weights(top10, training)
    jobs += training.baselines(jobs)
    undefined = [
        training.presentation.undefined(split, selects=split == selecting(training.splits))
        for split in training.splits
        if split != "train" and not training.can_measure(split)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / LOCK, ONE_TRAINING, HOW_TO_TAKE_OVER, take_over=take_over) as lock:
        for line in [*training.notes(), *undefined, _opening(top10, training, jobs), *warnings]:
            console.print(printable(line), highlight=False, markup=False, soft_wrap=True)
        results = _train(top10, training, jobs, folder, prepared, workers, console, lock)
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
            repair=f"Change the recipe (--set {training.rate}=...) and start again.",
        )
    checkpoint = folder / next(job.folder for job in jobs if job.name == best.name) / CHECKPOINT
    said = [str(folder / "results.md"), str(checkpoint)]
    if say_next:
        # Where export would not look by itself.
        elsewhere = bool(width) or folder != arch.parent / FOLDER
        said.append(f"next: {next_command(best, arch, checkpoint, elsewhere=elsewhere)}")
    for line in said:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return results


def _train(
    top10: Top10File,
    training: Training[Any, Any],
    jobs: Sequence[Job],
    folder: Path,
    prepared: Path,
    workers: int,
    console: Console,
    lock: FileLock,
) -> Results:
    """Every row in its turn; the results are written after each."""
    rows: list[Row] = []
    with _workers(training.recipe, prepared, workers, console) as pool, Display(console) as display:
        try:
            display.start_row("all rows")
            for line in _prepare(training, prepared, display):
                console.print(printable(line), highlight=False, markup=False, soft_wrap=True)
            for job in jobs:
                display.start_row(job.name, training.iterations(job))
                lock.check()
                row = run_entry(job, training, folder / job.folder, display.update, pool)
                lock.check()
                rows.append(row)
                results = rank_rows(rows, tuple(training.splits), training.presentation)
                write_results(results, folder, _about(top10, training))
                outcome = f"{results.presentation.heading} {percent(results.reported(row))}"
                if row.status == "failed":
                    outcome = row.reason
                console.print(
                    printable(f"{row.name}: {row.status}, {outcome}"), highlight=False, markup=False
                )
                if not row.pixels_known:
                    console.print(
                        printable(
                            f"{PIXELS_NOT_KNOWN}: the training of {row.name} began before the bytes of images were "
                            "looked at"
                        ),
                        highlight=False,
                        markup=False,
                    )
        except KeyboardInterrupt:
            console.print("interrupted; the same command continues", highlight=False)
            raise
    return results


def results_folder(run: Path, searched: Recipe, task: str | None) -> Path:
    """Where full training puts its results beside a ``top10.json``: each task but the search's own has a folder of its
    own, ``fulltrain-MODEL``.

    Args:
        run: the folder of the file.
        searched: the recipe in it.
        task: as typed; None: the search's own.

    Raises:
        InputError: there is no such task.
    """
    if task is None:
        return run / FOLDER
    section = task_section(task)
    asked = recipe_task(searched.model_copy(update={"task": ComponentSection(**section)}))
    model = section.get("model", asked.models[0])
    own = own_task(searched)
    return run / (FOLDER if own is asked and model == asked.models[0] else f"{FOLDER}-{model}")


def next_command(best: Row, arch: Path, checkpoint: Path, *, elsewhere: bool) -> str:
    """What to type after full training: export of the best row, which only an entry of ``arch`` has a rank for."""
    if best.rank is None:
        return f"nasperc evaluate {checkpoint} --data DIR"
    return (
        f"nasperc export architecture {arch} --rank {best.rank}" + f" --checkpoint {checkpoint}" * elsewhere
    )


def _prepare(training: Training[Any, Any], prepared: Path, display: Display) -> list[str]:
    """Read the images for their hashes, since what is trained and measured goes by them; then what the task prepares.
    What should be said of it, a line each."""
    notes: list[str] = []
    for split in training.splits.values():
        notes += split.read_files(prepared, lambda phase, fraction: display.update(phase, fraction, ""))
    return list(dict.fromkeys(notes + training.prepare(display.update)))


@contextmanager
def _workers(recipe: Recipe, prepared: Path, count: int, console: Console) -> Iterator[Workers | None]:
    """What does the iterations instead of this process; None for one worker, who needs no Ray."""
    if count == 1:
        yield None
        return
    from nasperc.fulltrain.data_parallel import data_parallel

    with data_parallel(recipe, prepared, count) as parallel:
        for note in parallel.notes:
            console.print(note, highlight=False, markup=False, soft_wrap=True)
        yield parallel.train


def _check_classes(top10: Top10File, training: Training[Any, Any]) -> None:
    """The same folder must still have the classes of the search; another one may have others."""
    path, split = training.recipe.data.path, training.splits["train"]
    found = split.classes
    searched = tuple(top10.data.get("classes", found))
    # Older searches kept the blanks around the names of a file, and the category above all others.
    same = {name.strip() for name in searched} - {split.left_out} == {name.strip() for name in found}
    if path == top10.recipe.data.path and not same:
        raise InputError(
            "a data set must have the classes that it had in the search",
            value=f"{', '.join(found)} instead of {', '.join(searched)}",
            where=str(path),
            repair="List the classes in a file and pass it as --set data.classes=FILE.",
        )


def _check_weights(top10: Top10File, training: Training[Any, Any]) -> None:
    """The same file must still hold the backbone weights of the search; another one may be named."""
    path, wanted = training.recipe.model.backbone.weights, top10.weights.get("sha256")
    if path is None or path != top10.recipe.model.backbone.weights or not isinstance(wanted, str):
        return
    found = file_sha256(path)
    if found != wanted:
        raise InputError(
            f"the backbone weights must be those that the search had: SHA-256 {wanted[:16]}",
            value=found[:16],
            where=path,
            repair="Restore the file, or name other weights: --weights FILE.",
        )


def _opening(top10: Top10File, training: Training[Any, Any], jobs: Sequence[Job]) -> str:
    ranked = sum(job.rank is not None for job in jobs)
    names = [f"{ranked} of {len(top10.entries)} entries of {top10.path}"] if ranked else [str(top10.path)]
    names += [job.name for job in jobs if job.rank is None]
    counts = ", ".join(f"{len(split)} {name}" for name, split in training.splits.items())
    data = f"{training.splits['train'].name} ({counts} {training.examples})"
    return f"{', '.join(names)}, {training.budget()}, on {data}"


def _about(top10: Top10File, training: Training[Any, Any]) -> dict[str, Any]:
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
