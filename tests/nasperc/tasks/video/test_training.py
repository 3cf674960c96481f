"""``fulltrain`` of dynamic cells: recognised by the search's task, two phases, an equal budget for the baseline."""

import io
import json
import os
import shutil
import signal

import numpy as np
import pytest
import torch
from rich.console import Console
from top10_file import write_top10

from nasperc.assembly import static_network
from nasperc.data.formats import open_video
from nasperc.data.label_map import write_label_map
from nasperc.errors import InputError
from nasperc.fulltrain import entry_run
from nasperc.fulltrain.run import fulltrain
from nasperc.recipe.reading import parse_recipe
from nasperc.tasks.training import Found
from nasperc.tasks.video import training as video_training
from nasperc.tasks.video.evaluate import evaluate_video
from nasperc.tasks.video.trained import load_segmenter
from nasperc.torch_files import file_sha256
from nasperc.training.checkpoint import load_checkpoint

PHASE = {"epochs": 0.5, "batch_size": 2}


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=80)


@pytest.fixture(scope="module")
def recipe(video_data):
    document = {
        # Not that of the proxy task, which the static network is made with.
        "seed": 5,
        "data": {"path": str(video_data)},
        "model": {"backbone": {"width_mult": 0.1}},
        "space": {"name": "dynamic_cell", "variant": "4_layers", "width": 8},
        "proxy": {"name": "video_segmentation"},
        "video": {
            "static": {"epochs": 0.5, "batch_size": 4, "crop": [48, 64]},
            "cell": PHASE,
            "end_to_end": {**PHASE, "epochs": 1},
            "pad": None,
            "crop": [48, 64],
            "checkpoint_every": 1,
        },
    }
    return parse_recipe(document, where="test")


@pytest.fixture(scope="module")
def prepared(recipe, videos, tmp_path_factory):
    """The static network, trained once for all tests here."""
    folder = tmp_path_factory.mktemp("prepared")
    seed = recipe.proxy.options["seed"]
    static_network.prepared_static(recipe.model, recipe.video.static, videos, folder, seed)
    return folder


@pytest.fixture
def top10(tmp_path, recipe, videos, prepared):
    """A run folder's ``top10.json`` with two random cells, beside the prepared static network."""
    path = write_top10(
        tmp_path / "runs" / "search-001",
        recipe,
        stage="cell",
        task="video_segmentation",
        classes=videos.classes,
        widths={"cell": 8},
        rewards=(0.5, 0.25),
    )
    (tmp_path / "runs" / "prepared").symlink_to(prepared)
    return path


def test_entries_beside_the_per_frame_baseline(top10, console, video_data, monkeypatch):
    def trained(*_, **__):
        raise AssertionError("the static network was trained again")

    monkeypatch.setattr("nasperc.training.segmenter_plans.static_losses", trained)
    results = fulltrain(top10, console=console)
    folder = top10.parent / "fulltrain"
    rows = {row.name: row for row in results.rows}
    assert set(rows) == {"rank 1", "rank 2", "per-frame baseline"}
    assert all(row.status == "done" for row in results.rows), [row.reason for row in results.rows]
    # 4 triplets in batches of 2: one iteration of the cell, two of everything.
    assert {name: row.iterations for name, row in rows.items()} == {
        "rank 1": 3,
        "rank 2": 3,
        "per-frame baseline": 2,
    }
    assert (folder / "rank01" / "log.csv").read_text().splitlines()[0] == "iteration,segmentation"
    assert [line.split(",")[0] for line in (folder / "rank01" / "log.csv").read_text().splitlines()[1:]] == [
        "1",
        "2",
        "3",
    ]
    for row in results.rows:
        assert set(row.metrics) == {"val", "test"}
        for values in row.metrics.values():
            assert {"miou", "macc", "gacc", "fwiou", "tiou"} <= values.keys()
            assert list(values["sequences"]) == ["1", "2", "3"]
            assert list(values["runs"]) == ["1", "2", "3", "4"]
        assert row.latency["median_s"] > 0
        assert row.flops is None
    assert rows["rank 1"].params > rows["per-frame baseline"].params
    # The checkpoint alone gives the numbers of the table again.
    for name, place in (("rank 1", "rank01"), ("per-frame baseline", "per-frame")):
        trained_network = load_segmenter(folder / place / "checkpoint.pt")
        assert trained_network.finished
        report, _ = evaluate_video(trained_network, video_data, split="val")
        assert report.overall.miou == pytest.approx(rows[name].metrics["val"]["miou"])
        assert report.overall.tiou == pytest.approx(rows[name].metrics["val"]["tiou"])
    written = json.loads((folder / "results.json").read_text())
    assert written["static_network"].endswith(".pt")
    assert "mIoU val" in (folder / "results.md").read_text()
    said = " ".join(console.file.getvalue().split())
    assert "1 iterations of the cell alone and 2 of everything each (the baseline: 2)" in said
    assert f"next: nasperc export architecture {top10} --rank" in said

    # Typed again, nothing is trained or measured.
    monkeypatch.setattr(video_training, "segment_dataset", trained)
    monkeypatch.setattr(video_training, "measure_video_latency", trained)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.pt")}
    again = fulltrain(top10, console=console)
    assert [(r.name, r.metrics, r.latency) for r in again.rows] == [
        (r.name, r.metrics, r.latency) for r in results.rows
    ]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.pt")} == before


@pytest.mark.parametrize("stop", [1, 2])
def test_an_interrupted_one_continues_exactly(top10, console, monkeypatch, stop):
    """Ctrl-C at the end of the first phase, and within the second."""
    straight = fulltrain(top10, top=1, folder=top10.parent / "straight", console=console)
    real_train, steps = entry_run.train, []

    def interrupted(run, on_step, elsewhere):
        def report(step, losses):
            on_step(step, losses)
            steps.append(step)
            if len(steps) == stop:
                os.kill(os.getpid(), signal.SIGINT)

        return real_train(run, on_step=report)

    monkeypatch.setattr(entry_run, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fulltrain(top10, top=1, console=console)
    place = top10.parent / "fulltrain" / "rank01"
    assert load_checkpoint(place / "cell.pt")["step"] == 1
    assert (place / "checkpoint.pt").exists() == (stop == 2)
    monkeypatch.setattr(entry_run, "train", real_train)
    continued = fulltrain(top10, top=1, console=console)
    assert {r.name: r.metrics for r in continued.rows} == {r.name: r.metrics for r in straight.rows}
    one, other = (
        load_checkpoint(top10.parent / name / "rank01" / "checkpoint.pt")["model"]
        for name in ("straight", "fulltrain")
    )
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_failing_cell_does_not_stop_the_others(top10, console, monkeypatch):
    real_train = entry_run.train

    def failing(run, on_step, elsewhere):
        if run.checkpoint.parent.name == "rank01":
            raise RuntimeError("no kernel")
        return real_train(run, on_step=on_step)

    monkeypatch.setattr(entry_run, "train", failing)
    results = fulltrain(top10, console=console)
    assert (results.rows[-1].name, results.rows[-1].status) == ("rank 1", "failed")
    assert results.best.name == "rank 2"
    assert "rank 1 failed: RuntimeError: no kernel" in (top10.parent / "fulltrain/results.md").read_text()


def test_another_static_network_than_the_search_had_is_said(recipe, prepared):
    def said(weights):
        task = video_training.VideoTraining(recipe, prepared, recipe, Found(weights=weights))
        return task.prepare(lambda *_: None)

    assert said({}) == []
    (path,) = prepared.glob("static-*.pt")
    searched = {"static_file": path.name, "static_sha256": file_sha256(path)}
    assert said(searched) == []
    # With another recipe another network is meant.
    assert said({"static_file": "static-0.pt", "static_sha256": "0" * 64}) == []
    (line,) = said({**searched, "static_sha256": "0" * 64})
    assert f"{path} is not the per-frame network that the search had" in line


def test_another_seed_of_the_training_leaves_the_static_network(top10, console, prepared):
    before = sorted(prepared.glob("static-*.pt"))
    fulltrain(top10, top=1, overrides=[{"seed": 7}], console=console)
    assert sorted(prepared.glob("static-*.pt")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"workers": 2}, "are trained by one process"),
        ({"task": "fcos"}, "task fcos takes no architectures of the space dynamic_cell"),
        ({"pick": "worst"}, "must be one of best, controller"),
        ({"top": 3}, "--top must lie between"),
        ({"width": "33"}, "multiple of 32"),
        ({"pick": "controller"}, "a run folder must hold recipe.yaml"),
        ({"settings": ["video.sequence_length=5"]}, "a sequence of 5 frames"),
        ({"settings": ["video.end_to_end.batch_size=1"]}, "a batch needs at least two"),
        ({"settings": ["data.val_split=dev", "data.test_split=none"]}, "needs a split to measure on"),
    ],
)
def test_bad_input(top10, console, arguments, message):
    with pytest.raises(InputError, match=message):
        fulltrain(top10, console=console, **arguments)
    assert not (top10.parent / "fulltrain").exists()


def all_void(video_data, folder, *splits, first_frames_too=True):
    """A copy of the data set without a pixel of a class in some splits."""
    shutil.copytree(video_data, folder)
    for split in splits:
        data = open_video(folder, split)
        for run in data.runs:
            for k in run if first_frames_too else run[1:]:
                frame = data.frames[k]
                write_label_map(frame.annotation, np.full(frame.size, 255))
    return [{"data": {"path": str(folder)}}]


def test_measured_on_void_alone(top10, console, video_data, tmp_path):
    results = fulltrain(
        top10, top=1, overrides=all_void(video_data, tmp_path / "void", "val", "test"), console=console
    )
    assert [row.name for row in results.rows] == ["rank 1", "per-frame baseline"]
    assert all(row.metrics["test"]["miou"] is None for row in results.rows)
    printed = " ".join(console.file.getvalue().split())
    assert "mIoU on val is undefined (shown as -): it has no pixel of a class; rows stand in the" in printed
    assert "rank 1: done, mIoU -" in printed
    written = (top10.parent / "fulltrain" / "results.md").read_text()
    assert written.startswith("Not ranked, since mIoU on val is undefined: it has no pixel of a class")
    json.loads((top10.parent / "fulltrain" / "results.json").read_text(), parse_constant=pytest.fail)


@pytest.mark.parametrize("first_frames_too", [True, False])
def test_nothing_to_learn_is_refused(top10, console, video_data, tmp_path, first_frames_too):
    overrides = all_void(video_data, tmp_path / "void", "train", first_frames_too=first_frames_too)
    with pytest.raises(InputError, match=r"the train split .*must show at least one pixel"):
        fulltrain(top10, overrides=overrides, console=console)


def test_entries_of_an_old_search_keep_the_network_that_they_were_found_on(
    top10, console, recipe, videos, tmp_path
):
    """Made before the bytes of images counted: its name says less, and what ``top10.json`` says of it must be true."""
    seed, static = recipe.proxy.options["seed"], recipe.video.static
    contents = static_network.static_contents(recipe.model, static, videos, seed)
    old = static_network.old_static_contents(contents, videos.old_fingerprint())
    own = tmp_path / "runs" / "own" / "prepared"
    _, file = static_network.prepared_static(recipe.model, static, videos, own, seed, contents=old)
    document = json.loads(top10.read_text())
    document["data"]["fingerprint"] = videos.old_fingerprint()
    document["weights"]["static_sha256"] = file_sha256(file)
    arch = tmp_path / "runs" / "own" / "search-001" / "top10.json"
    arch.parent.mkdir()
    arch.write_text(json.dumps(document))
    fulltrain(arch, top=1, console=console)
    assert "pixels not known: the search began before" in console.file.getvalue()
    about = json.loads((arch.parent / "fulltrain" / "results.json").read_text())
    assert about["static_network"] == str(file)
    assert [path.name for path in own.glob("static-*.pt")] == [file.name]
    # A new search's entries are put on a network that was trained on these very pixels.
    del document["data"]["fingerprint"]
    arch.write_text(json.dumps(document))
    fulltrain(arch, top=1, folder=tmp_path / "again", console=console)
    assert len(list(own.glob("static-*.pt"))) == 2
