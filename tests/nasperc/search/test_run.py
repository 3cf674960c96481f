from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from controllers.service.journal import Event, Journal
from nasperc.errors import InputError
from nasperc.recipe.root import Recipe
from nasperc.search.run import run_search
from nasperc.search.run_folder import RunFolder
from nasperc.search.top10 import read_top10

MakeRecipe = Callable[..., Recipe]


def events(folder: Path, kind: str) -> list[Event]:
    return [event for event in Journal.read(folder / "journal.jsonl") if event["event"] == kind]


def printed(console: Console) -> str:
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_local_search_from_recipe_to_top10(
    tmp_path: Path, toy_recipe: MakeRecipe, console: Console
) -> None:
    folder = tmp_path / "runs" / "one"
    path = run_search(toy_recipe(), folder, console=console)

    completions = events(folder, "completion")
    assert len(completions) == 24
    assert [event["stage"] for event in completions].count("head") == 6
    top10 = read_top10(path)
    heads = [event for event in completions if event["stage"] == "head"]
    best = max(heads, key=lambda event: event["reward"])
    assert top10.entries[0].reward == best["reward"]
    assert top10.entries[0].hash == best["hash"]
    assert len(top10.entries) == 10
    assert top10.search_cost_hours == pytest.approx(24 * 0.5 / 3600)
    assert top10.data["classes"] == ["toy"]
    assert f"nasperc fulltrain --arch {path}" in printed(console)
    assert "toy cache: done" in printed(console)
    assert "best" in printed(console)
    assert list((folder / "tensorboard").iterdir())
    assert not (folder / "ray").exists()


def test_a_damaged_snapshot_is_said_when_the_run_goes_on(
    tmp_path: Path, toy_recipe: MakeRecipe, console: Console
) -> None:
    folder = tmp_path / "runs" / "one"
    run_search(toy_recipe({"budget": "60"}, seconds=0.001), folder, console=console)
    snapshots = [event for event in events(folder, "snapshot") if event["stage"] == "body"]
    assert snapshots
    lines = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    # Up to a little after the first stage's last snapshot.
    last = max(number for number, line in enumerate(lines) if snapshots[-1]["file"].encode() in line)
    (folder / "journal.jsonl").write_bytes(b"".join(lines[: last + 1]))
    for name in ("top10.json", "pareto.json"):
        (folder / name).unlink(missing_ok=True)
    (folder / snapshots[-1]["file"]).write_bytes(b"damaged")
    run_search(None, folder, console=console, resume=True)
    assert f"a snapshot of the controller was passed over: '{snapshots[-1]['file']}: its SHA-256" in printed(
        console
    )


def test_the_ranking_has_a_latency_where_the_proxy_task_knows_it(
    tmp_path: Path, toy_recipe: MakeRecipe, console: Console
) -> None:
    run_search(toy_recipe(), tmp_path / "runs" / "without", console=console)
    assert "median latency" not in printed(console)
    run_search(toy_recipe(knows_latency=True), tmp_path / "runs" / "with", console=console)
    assert "median latency of one image (toy)" in printed(console)
    # The head's candidates have a width of 16, which comes first; the body's 8.
    assert printed(console).count(" 16.0 ") == 6
    assert printed(console).count(" 8.0 ") == 4
    assert "busy machine" not in printed(console)


def test_a_latency_that_cannot_be_trusted_is_said(
    tmp_path: Path, toy_recipe: MakeRecipe, console: Console
) -> None:
    run_search(toy_recipe(knows_latency=True, core_share=0.3), tmp_path / "runs" / "one", console=console)
    assert "ms: measured on a busy machine (30 % of a core); they may not hold" in printed(console)


def test_a_failing_candidate_is_recorded_and_the_search_goes_on(
    tmp_path: Path, toy_recipe: MakeRecipe, console: Console
) -> None:
    folder = tmp_path / "runs" / "one"
    recipe = toy_recipe({"candidate_time_limit_s": 0.2}, nan=[2], raises=[4], hangs=[6])
    path = run_search(recipe, folder, console=console)

    failures = {event["id"]: str(event["reason"]) for event in events(folder, "failure")}
    assert set(failures) == {2, 4, 6}
    assert "finite" in failures[2]
    assert "ZeroDivisionError: toy failure (toy_plugin.py:" in failures[4]
    assert "time limit" in failures[6]
    assert len(events(folder, "completion")) == 21
    assert not {2, 4, 6} & {entry.id for entry in read_top10(path).entries}


def test_a_resumed_run_gives_the_same_top10_as_an_undisturbed_one(
    tmp_path: Path, toy_recipe: MakeRecipe, console: Console
) -> None:
    undisturbed = run_search(toy_recipe(), tmp_path / "a" / "run", console=console)
    folder = tmp_path / "b" / "run"
    with pytest.raises(KeyboardInterrupt):
        run_search(toy_recipe(interrupts_once=[5]), folder, console=console)
    assert f"nasperc search --resume {folder}" in printed(console)
    assert len(read_top10(folder / "top10.json").entries) == 5
    resumed = run_search(None, folder, resume=True, console=console)

    assert len(events(folder, "run_resume")) == 1
    assert [event["id"] for event in events(folder, "completion")] == list(range(24))
    one, other = json.loads(undisturbed.read_text()), json.loads(resumed.read_text())
    assert one["entries"] == other["entries"]
    assert one["search_cost_hours"] == pytest.approx(other["search_cost_hours"])


def test_a_run_that_has_ended_writes_its_top10_again(
    tmp_path: Path, toy_recipe: MakeRecipe, console: Console
) -> None:
    path = run_search(toy_recipe(), tmp_path / "run", console=console)
    text = path.read_text()
    path.unlink()
    run_search(None, tmp_path / "run", resume=True, console=console)
    assert path.read_text() == text


def test_a_resumed_run_may_change_its_workers_but_not_its_seed(
    tmp_path: Path, toy_recipe: MakeRecipe, console: Console
) -> None:
    folder = tmp_path / "run"
    run_search(toy_recipe(), folder, console=console)
    run_search(toy_recipe({"workers": 3}), folder, resume=True, console=console)
    other = toy_recipe().model_copy(update={"seed": 4})
    with pytest.raises(InputError, match="another seed"):
        run_search(other, folder, resume=True, console=console)


def test_a_budget_in_time_ends_the_search(tmp_path: Path, toy_recipe: MakeRecipe, console: Console) -> None:
    folder = tmp_path / "run"
    run_search(toy_recipe({"budget": "1s"}, seconds=0.05), folder, console=console)
    times = [event["at"] for event in Journal.read(folder / "journal.jsonl")]
    assert times[-1] - times[0] >= 1.0
    assert {event["stage"] for event in events(folder, "completion")} == {"body", "head"}
    assert events(folder, "stage_start")[1]["at"] - times[0] >= 0.75


def test_a_budget_below_the_stages_is_told_before_anything_is_prepared(
    tmp_path: Path, toy_recipe: MakeRecipe, console: Console
) -> None:
    with pytest.raises(InputError, match="at least 2"):
        run_search(toy_recipe({"budget": "1"}), tmp_path / "run", console=console)
    assert not (tmp_path / "run").exists()


def test_workers_that_cannot_be_set_up_end_the_run_with_their_error(
    tmp_path: Path, toy_recipe: MakeRecipe, console: Console
) -> None:
    with pytest.raises(InputError, match=r"3 times in a row .* RuntimeError: the cache is gone"):
        run_search(toy_recipe(setup_fails=True), tmp_path / "run", console=console)


def test_a_stage_without_any_completion_ends_the_run(
    tmp_path: Path, toy_recipe: MakeRecipe, console: Console
) -> None:
    with pytest.raises(InputError, match=r"no candidate of the stage body .*toy failure.*--resume"):
        run_search(toy_recipe({"budget": "10"}, raises=list(range(10))), tmp_path / "run", console=console)
    assert not (tmp_path / "run" / "top10.json").exists()


def test_a_search_of_failures_pauses_and_goes_on(
    tmp_path: Path, toy_recipe: MakeRecipe, console: Console
) -> None:
    folder = tmp_path / "run"
    message = r"paused: 11 of the last 13 candidates failed, all .*toy failure.*--resume"
    with pytest.raises(InputError, match=message):
        run_search(toy_recipe({"budget": "40"}, raises=list(range(2, 40))), folder, console=console)
    assert len(read_top10(folder / "top10.json").entries) == 2
    with pytest.raises(InputError, match="11 of the last 11"):
        run_search(None, folder, resume=True, console=console)
    assert len(events(folder, "failure")) == 22


def test_a_candidate_that_wants_too_much_memory_fails_and_the_limit_goes_with_it(
    tmp_path: Path, toy_recipe: MakeRecipe, console: Console
) -> None:
    folder, before = tmp_path / "run", resource.getrlimit(resource.RLIMIT_DATA)
    recipe = toy_recipe({"worker_memory_gib": 3.0}, eats_memory=[3])
    run_search(recipe, folder, console=console)
    (retry,), (failure,) = events(folder, "retry"), events(folder, "failure")
    assert (retry["id"], failure["id"], failure["transient"]) == (3, 3, True)
    assert "out of memory, RuntimeError" in failure["reason"]
    assert len(events(folder, "completion")) == 23
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_a_memory_limit_that_the_worker_fills_itself_is_told(
    tmp_path: Path, toy_recipe: MakeRecipe, console: Console
) -> None:
    with pytest.raises(InputError, match="must leave room for candidates"):
        run_search(toy_recipe({"worker_memory_gib": 0.01}), tmp_path / "run", console=console)
    # Which the next attempt may change.
    run_search(toy_recipe({"worker_memory_gib": 4.0}), tmp_path / "run", resume=True, console=console)


def test_a_new_run_does_not_overwrite_another(
    tmp_path: Path, toy_recipe: MakeRecipe, console: Console
) -> None:
    # A recipe without a journal is a start that failed: the corrected command takes its place.
    RunFolder(tmp_path / "run").create(toy_recipe())
    run_search(toy_recipe(), tmp_path / "run", console=console)
    with pytest.raises(InputError, match="--resume"):
        run_search(toy_recipe(), tmp_path / "run", console=console)


def test_the_local_executor_never_imports_ray(tmp_path: Path, toy_recipe: MakeRecipe) -> None:
    RunFolder(tmp_path / "run").create(toy_recipe())
    program = (
        "import sys; from pathlib import Path; from nasperc.search.run import run_search\n"
        f"run_search(None, Path({str(tmp_path / 'run')!r}), resume=True)\n"
        "assert 'ray' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
