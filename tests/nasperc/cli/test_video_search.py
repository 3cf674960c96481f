"""The way from a search of dynamic cells to a trained network, as a person types it in an empty folder."""

import json
import sys

import pytest

from nasperc.cli import main as cli

# Small enough for a test, and still every step of the real way.
TINY = [
    "--executor=local", "--budget=2", "--seed=3",
    "--set=data.synthetic_video={train: 2, val: 1, test: 1, frames: 10, size: [48, 64]}",
    "--set=model.backbone.width_mult=0.1",
    "--set=space.width=8",
    "--set=video.static={epochs: 0.5, batch_size: 4, crop: [48, 64]}",
    "--set=video.cell={epochs: 0.1, batch_size: 2}",
    "--set=video.end_to_end={epochs: 0.1, batch_size: 2}",
    "--set=video.crop=[48, 64]",
    "--set=proxy={crop: [48, 64], views: 1, batch_size: 4, epochs: 0.5, block: 3, bn_batches: 1}",
]  # fmt: skip


def nasperc(monkeypatch, capsys, *arguments):
    """Standard output of one command that ends well."""
    monkeypatch.setattr(sys, "argv", ["nasperc", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit:
        cli.main()
    captured = capsys.readouterr()
    assert exit.value.code == 0, captured.err
    return captured.out


def test_search_fulltrain_evaluate(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    out = nasperc(monkeypatch, capsys, "search", "--space", "dynamic_cell", *TINY)
    assert "nasperc fulltrain --arch" in out
    static = list((tmp_path / "runs" / "prepared").glob("static-*.pt"))
    assert len(static) == 1

    out = nasperc(monkeypatch, capsys, "fulltrain", "--arch", "top10.json", "--top", "1")
    assert "per-frame baseline: done" in out
    # What the search pre-trained is found again.
    assert list((tmp_path / "runs" / "prepared").glob("static-*.pt")) == static

    out = nasperc(monkeypatch, capsys, "fulltrain", "--pick", "controller", "--top", "1", "--out", "drawn")
    assert "sample 1, per-frame baseline, 1 iterations" in out
    rows = json.loads((tmp_path / "drawn" / "results.json").read_text())["rows"]
    assert {row["name"] for row in rows} == {"sample 1", "per-frame baseline"}

    (checkpoint,) = tmp_path.glob("drawn/controller-*/checkpoint.pt")
    (data,) = (tmp_path / "runs" / "prepared").glob("synthetic-video-*")
    out = nasperc(monkeypatch, capsys, "evaluate", checkpoint, "--data", data, "--split", "test", "--json")
    sampled = next(row for row in rows if row["name"] == "sample 1")
    assert json.loads(out)["miou"] == pytest.approx(sampled["metrics"]["test"]["miou"])
