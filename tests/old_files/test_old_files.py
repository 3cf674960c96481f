"""What an older version wrote still opens, gives the same numbers, and is never taken for something newer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Of rewards: what other processors differ by. Read by other rules, one of these runs would be off by more than 0.1.
NEAR = 0.01
SPACES = ("detection", "video")
# A folder and the words typed there -> exit code, standard output, standard error.
Typed = Callable[..., tuple[int, str, str]]


def run_of(old: Path, kind: str) -> Path:
    return old / kind / "runs" / "search-001"


def events(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "journal.jsonl").read_bytes().splitlines()]


def rewards(run: Path) -> dict[str, float]:
    """Of completed candidates, by stage and hash."""
    return {f"{e['stage']} {e['hash']}": e["reward"] for e in events(run) if e["event"] == "completion"}


def odd(old: Path) -> Path:
    """The folder of the run with odd annotations, whose recipe says where it lies, as every run's does."""
    recipe = old / "odd" / "runs" / "odd" / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("path: data\n", f"path: {old / 'odd' / 'data'}\n"))
    return old / "odd"


def cut_before_the_last_completion(run: Path) -> None:
    """The journal as it was when the last candidate was still to be trained; nothing beside it knows more."""
    lines = (run / "journal.jsonl").read_bytes().splitlines(keepends=True)
    last = max(k for k, event in enumerate(events(run)) if event["event"] == "completion")
    (run / "journal.jsonl").write_bytes(b"".join(lines[:last]))
    (run / "top10.json").unlink()
    (run / "pareto.json").unlink()


def caches(run: Path) -> set[str]:
    return {path.name for path in (run.parent / "prepared").glob("*.h5")}


@pytest.mark.parametrize("kind", SPACES)
def test_an_interrupted_run_of_before_the_pixels_counted_goes_on_with_its_own_cache_and_says_so(
    kind: str, old: Path, type_in: Typed
) -> None:
    run = run_of(old, kind)
    wanted, before = rewards(run), caches(run)
    cut_before_the_last_completion(run)
    assert len(rewards(run)) == len(wanted) - 1
    code, out, err = type_in(old / kind, "search", "--resume", "runs/search-001")
    assert code == 0, err
    # Another processor has other last digits than the one that the files were made on.
    assert rewards(run) == pytest.approx(wanted, abs=NEAR)
    assert caches(run) == before, "its cache was built again"
    assert out.count("pixels") == 1, out
    assert (run / "top10.json").exists()


def test_an_interrupted_run_goes_on_with_its_own_cache(old: Path, type_in: Typed) -> None:
    home = old / "before_tasks" / "detection"
    run = home / "runs" / "search-001"
    wanted, before = rewards(run), caches(run)
    cut_before_the_last_completion(run)
    code, out, err = type_in(home, "search", "--resume", "runs/search-001")
    assert code == 0, err
    assert rewards(run) == pytest.approx(wanted, abs=NEAR)
    assert caches(run) == before, "its cache was built again"
    assert "pixels" not in out


def test_a_run_goes_on_though_its_annotations_are_read_by_other_rules_now(old: Path, type_in: Typed) -> None:
    home = odd(old)
    run = home / "runs" / "odd"
    wanted, before = rewards(run), caches(run)
    cut_before_the_last_completion(run)
    code, out, err = type_in(home, "search", "--resume", "runs/odd")
    assert code == 0, err
    # The label of the crowds and the number of classes are those of its cache.
    assert rewards(run) == pytest.approx(wanted, abs=NEAR)
    assert caches(run) == before
    assert out.count("pixels not known") == out.count("read by other rules now") == 1, out
    assert json.loads((run / "top10.json").read_text())["data"]["classes"] == ["cat ", "dog", "pets"]
    code, _, err = type_in(home, "fulltrain", "--top", "1", "--set", "baselines=[]")
    assert code == 0, err


def test_a_run_whose_odd_annotations_have_no_cache_any_more_is_refused(old: Path, type_in: Typed) -> None:
    home = odd(old)
    run = home / "runs" / "odd"
    cut_before_the_last_completion(run)
    for cache in (run.parent / "prepared").glob("*.h5"):
        cache.unlink()
    journal = (run / "journal.jsonl").read_bytes()
    code, _, err = type_in(home, "search", "--resume", "runs/odd")
    assert code == 2
    assert "a resumed run must measure what it measured before" in err
    assert (run / "journal.jsonl").read_bytes() == journal


def test_a_run_that_knows_its_pixels_does_not_go_on_with_an_older_cache(old: Path, type_in: Typed) -> None:
    home = odd(old)
    arguments = ("--recipe", "runs/odd/recipe.yaml", "--name", "new", "--budget", "2")
    code, _, err = type_in(home, "search", *arguments)
    assert code == 0, err
    annotations = home / "data" / "annotations" / "instances_train.json"
    annotations.write_text(annotations.read_text().replace('"bbox": [27, ', '"bbox": [26, ', 1))
    code, _, err = type_in(home, "search", "--resume", "runs/new")
    assert code == 2
    assert "Annotations, images, weights" in err


@pytest.mark.parametrize("kind", SPACES)
def test_a_run_whose_cache_is_gone_is_refused_since_it_would_be_built_by_other_rules(
    kind: str, old: Path, type_in: Typed
) -> None:
    run = run_of(old, kind)
    cut_before_the_last_completion(run)
    for cache in (run.parent / "prepared").glob("*.h5"):
        cache.unlink()
    journal = (run / "journal.jsonl").read_bytes()
    code, _, err = type_in(old / kind, "search", "--resume", "runs/search-001")
    assert code == 2
    assert ".h5" in err
    assert "begin a new run" in err
    assert (run / "journal.jsonl").read_bytes() == journal


@pytest.mark.parametrize("kind", SPACES)
def test_a_finished_run_is_reported_and_exported(kind: str, either: Path, type_in: Typed) -> None:
    code, out, err = type_in(either / kind, "report", "runs/search-001")
    assert code == 0, err
    code, out, err = type_in(either / kind, "runs")
    assert code == 0, err
    assert "search-001" in out
    code, out, err = type_in(either / kind, "export", "architecture", "--to", "json", "--to", "svg")
    assert code == 0, err
    assert len(list((either / kind / "export").iterdir())) == 2


@pytest.mark.parametrize("kind", SPACES)
def test_a_finished_run_is_ranked_again(kind: str, old: Path, type_in: Typed) -> None:
    run = run_of(old, kind)
    before = json.loads((run / "top10.json").read_text())
    code, _, err = type_in(old / kind, "search", "--resume", "runs/search-001")
    assert code == 0, err
    assert json.loads((run / "top10.json").read_text())["entries"] == before["entries"]


@pytest.mark.parametrize("kind", SPACES)
def test_a_new_run_takes_nothing_whose_pixels_are_unknown(kind: str, old: Path, type_in: Typed) -> None:
    run = run_of(old, kind)
    prepared = run.parent / "prepared"
    before = {path.name for path in prepared.iterdir() if path.suffix in (".h5", ".pt", ".pth")}
    code, _, err = type_in(
        old / kind, "search", "--recipe", "runs/search-001/recipe.yaml", "--name", "new", "--budget", "2"
    )
    assert code == 0, err
    after = {path.name for path in prepared.iterdir() if path.suffix in (".h5", ".pt", ".pth")}
    assert before < after
    # Another cache each, and other weights beside.
    assert len(after) == 2 * len(before)


@pytest.mark.parametrize("kind", SPACES)
def test_a_new_run_learns_from_it(kind: str, old: Path, type_in: Typed) -> None:
    arguments = ("--recipe", "runs/search-001/recipe.yaml", "--name", "new", "--budget", "2")
    code, out, err = type_in(old / kind, "search", *arguments, "--warm-start", "runs/search-001")
    # Either it is taken, or it is said why not: its pixels are unknown.
    if code != 0:
        assert code == 2
        assert "pixels" in err
        return
    learnt = [event for event in events(old / kind / "runs" / "new") if event["event"] == "warm_start"]
    assert learnt[0]["evaluations"] > 0
    assert "pixels" in out


def test_an_interrupted_full_training_goes_on(either: Path, type_in: Typed) -> None:
    run = run_of(either, "detection")
    code, _, err = type_in(either / "detection", "fulltrain", "--top", "1", "--set", "baselines=[]")
    assert code == 0, err
    log = (run / "fulltrain" / "rank01" / "log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in log[1:]] == ["1", "2", "3", "4"]


@pytest.mark.parametrize("name", ["fcos", "retinanet"])
def test_a_detector_gives_the_same_numbers(name: str, either: Path, type_in: Typed) -> None:
    home, checkpoint = either / "detection", f"checkpoints/{name}.pt"
    data = synthetic(home, type_in)
    code, out, err = type_in(home, "evaluate", checkpoint, "--data", data, "--json", "--split", "train")
    assert code == 0, err
    wanted = json.loads((either / "expected" / f"{name}.evaluate.json").read_text())
    found = json.loads(out)
    for key in wanted:
        if key.startswith(("ap", "ar")):
            # Of objects of a size that there are none of: once such numbers were called -1.
            assert found[key] == (None if wanted[key] == -1 else pytest.approx(wanted[key], abs=1e-3)), key
    images = [data / "train" / f"00000{k}.jpg" for k in (1, 2)]
    code, _, err = type_in(home, "predict", checkpoint, *images, "--threshold", "0.05")
    assert code == 0, err
    wanted = json.loads((either / "expected" / f"{name}.detections.json").read_text())
    found = json.loads((home / "predictions" / "detections.json").read_text())
    assert found["classes"] == wanted["classes"]
    for one, other in zip(found["images"], wanted["images"], strict=True):
        # The tail of a hundred boxes may be cut otherwise on another processor.
        for mine, theirs in zip(one["objects"][:20], other["objects"][:20], strict=True):
            assert mine["class"] == theirs["class"]
            assert mine["score"] == pytest.approx(theirs["score"], abs=2e-3)
            assert mine["box"] == pytest.approx(theirs["box"], abs=0.05)


def test_a_cell_gives_the_same_numbers(either: Path, type_in: Typed) -> None:
    home = either / "video"
    data = next((home / "runs" / "prepared").glob("synthetic-video-*"), None)
    if data is None:
        code, _, err = type_in(home, "search", "--resume", "runs/search-001")
        assert code == 0, err
        data = next((home / "runs" / "prepared").glob("synthetic-video-*"))
    code, out, err = type_in(
        home, "evaluate", "checkpoints/cell.pt", "--data", data, "--json", "--split", "train"
    )
    assert code == 0, err
    wanted, found = json.loads((either / "expected" / "cell.evaluate.json").read_text()), json.loads(out)
    for key in ("miou", "macc", "gacc", "fwiou", "tiou"):
        assert found[key] == pytest.approx(wanted[key], abs=2e-3)
    for name, values in wanted["classes"].items():
        assert found["classes"][name]["pixels"] == values["pixels"]


def synthetic(home: Path, type_in: Typed) -> Path:
    """The data that the run was searched on: resuming an ended run writes them again."""
    copy = home / "data"
    if not copy.exists():
        code, _, err = type_in(home, "search", "--resume", "runs/search-001")
        assert code == 0, err
        shutil.copytree(next((home / "runs" / "prepared").glob("synthetic-*/coco")), copy)
    return copy
