"""One bit flipped in a file that a command reads: refused by name, mended, said, or without any effect; never another
result without a word."""

from __future__ import annotations

import io
import json
import random
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tally import Tally

from nasperc.cli import main as cli

IMAGES = {"train": 8, "val": 3, "test": 3, "size": [64, 64]}
TRAINING = {
    "iterations": 4,
    "batch_size": 2,
    "warmup_iterations": 1,
    "short_sides": [64],
    "max_long_side": 64,
}
DETECTION: dict[str, Any] = {
    "base": "demo",
    "data": {"synthetic": IMAGES},
    "model": {"backbone": {"name": "mobilenet_v2", "width_mult": 0.1}},
    "space": {"name": "fcos_decoder", "mode": "head"},
    "proxy": {
        **{"short_side": 64, "crop": 64, "views": 1, "batch_size": 2, "val_batch_size": 4, "iterations": 2},
        **{"bn_batches": 1, "finetune_width": 32},
        "finetune_training": {**TRAINING, "iterations": 2, "test_short_side": 64},
    },
    "search": {"budget": 3, "executor": "local"},
    "baselines": [],
    "fulltrain": {**TRAINING, "test_short_side": 64, "checkpoint_every": 2},
}
VIDEO: dict[str, Any] = {
    "base": "dynamic_cell",
    "data": {"synthetic_video": {"train": 3, "val": 1, "test": 1, "frames": 4, "size": [64, 64]}},
    "model": {"backbone": {"name": "mobilenet_v2", "width_mult": 0.1}},
    "space": {"name": "dynamic_cell", "variant": "4_layers", "width": 8},
    "video": {"static": {"epochs": 1, "batch_size": 2, "crop": [64, 64]}, "crop": [64, 64]},
    "proxy": {"crop": [64, 64], "views": 1, "batch_size": 2, "epochs": 1, "bn_batches": 1},
    "search": {"budget": 3, "executor": "local"},
}
# No training, so that a controller can be asked often enough for snapshots of it.
TABLE: dict[str, Any] = {
    "base": "table",
    "space": {"name": "table", "file": "table.csv"},
    "proxy": {"name": "table"},
    "controller": {"name": "ppo", "batch": 4},
    "search": {"budget": 60, "executor": "local"},
}
RESUME = ("search", "--resume", "runs/search-001")


@dataclass(frozen=True)
class Victim:
    """``prepare`` brings a copy of a finished home to the state in which ``file`` matters; ``command`` reads it, and
    ``result`` is what must not change without a word."""

    home: str
    file: str
    prepare: Callable[[Path], None]
    command: tuple[str, ...]
    result: Callable[[Path], Any]


def unfinished(home: Path) -> None:
    """The last candidate is still to be trained, and nothing beside the journal knows more."""
    run = home / "runs" / "search-001"
    lines = (run / "journal.jsonl").read_bytes().splitlines(keepends=True)
    last = max(k for k, line in enumerate(lines) if json.loads(line)["event"] == "completion")
    (run / "journal.jsonl").write_bytes(b"".join(lines[:last]))
    for name in ("top10.json", "pareto.json"):
        (run / name).unlink()


def without_caches(home: Path) -> None:
    """As unfinished, and the caches have to be built again."""
    unfinished(home)
    for cache in (home / "runs" / "prepared").glob("*.h5"):
        cache.unlink()


def after_the_last_snapshot(home: Path) -> None:
    """All that is still to be proposed follows from the controller's snapshot."""
    run = home / "runs" / "search-001"
    lines = (run / "journal.jsonl").read_bytes().splitlines(keepends=True)
    last = max(k for k, line in enumerate(lines) if json.loads(line)["event"] == "snapshot")
    (run / "journal.jsonl").write_bytes(b"".join(lines[: last + 1]))
    kept = json.loads(lines[last])["file"]
    for path in [*run.glob("controller-*.pt"), run / "top10.json", run / "pareto.json"]:
        # Only one is left, so that it must be this one.
        if path.name != kept:
            path.unlink(missing_ok=True)


def rewards(home: Path) -> Any:
    """Rewards of the run's completed candidates, by hash."""
    lines = (home / "runs" / "search-001" / "journal.jsonl").read_bytes().splitlines()
    found = map(json.loads, lines)
    return {event["hash"]: event["reward"] for event in found if event["event"] == "completion"}


def detections(home: Path) -> Any:
    """What was found on an image, down to the last score."""
    return json.loads((home / "predictions" / "detections.json").read_text())["images"][0]["objects"]


def half_trained(home: Path) -> None:
    """Full training goes on from its checkpoint."""
    shutil.rmtree(home / "runs" / "search-001" / "fulltrain")
    shutil.copytree(home / "half", home / "runs" / "search-001" / "fulltrain")


def trained(home: Path) -> Any:
    """The weights to which the training that was continued came."""
    checkpoint = next((home / "runs" / "search-001" / "fulltrain").glob("rank*/checkpoint.pt"))
    model = torch.load(checkpoint, weights_only=True)["model"]
    return {name: tensor.tolist() for name, tensor in model.items()}


VICTIMS = {
    "snapshot": Victim("table", "runs/search-001/controller-*.pt", after_the_last_snapshot, RESUME, rewards),
    "cache": Victim("detection", "runs/prepared/cache-*.h5", unfinished, RESUME, rewards),
    "fine-tuned weights": Victim(
        "detection", "runs/prepared/backbone-*.pth", without_caches, RESUME, rewards
    ),
    "cache of frames": Victim("video", "runs/prepared/frames-train-*.h5", unfinished, RESUME, rewards),
    "static weights": Victim("video", "runs/prepared/static-*.pt", without_caches, RESUME, rewards),
    "checkpoint": Victim(
        "detection",
        "runs/search-001/fulltrain/rank*/checkpoint.pt",
        lambda home: None,
        ("predict", "checkpoint.pt", "image.jpg", "--threshold", "0"),
        detections,
    ),
    "checkpoint of an interrupted training": Victim(
        "detection",
        "runs/search-001/fulltrain/rank*/checkpoint.pt",
        half_trained,
        ("fulltrain", "runs/search-001", "--top", "1"),
        trained,
    ),
}


def typed(home: Path, words: Sequence[str], patch: pytest.MonkeyPatch) -> tuple[int, str]:
    """Exit code and everything said, of a command typed in ``home``."""
    with patch.context() as here:
        here.chdir(home)
        here.setattr(sys, "argv", ["nasperc", *words])
        # The consoles of the commands find the streams when they print.
        said = io.StringIO()
        with redirect_stdout(said), redirect_stderr(said), pytest.raises(SystemExit) as exit:
            cli.main()
    return int(exit.value.code or 0), said.getvalue()


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Finished runs of both tasks; of the detector a full training as well, finished and interrupted."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        for name, recipe in (("detection", DETECTION), ("video", VIDEO), ("table", TABLE)):
            home = found[name] = tmp_path_factory.mktemp(name)
            rows = (f"{k:012b},{(k * 7919 % 4099) / 4099:.4f}" for k in range(4096))
            (home / "table.csv").write_text("\n".join(["tokens,score", *rows]) + "\n")
            (home / "recipe.yaml").write_text(yaml.safe_dump(recipe))
            code, said = typed(home, ("search", "--recipe", "recipe.yaml"), patch)
            assert code == 0, said
        home = found["detection"]
        image = sorted((home / "runs" / "prepared").glob("synthetic-*/coco/train/*.jpg"))[0]
        shutil.copy(image, home / "image.jpg")
        fulltrain = home / "runs" / "search-001" / "fulltrain"
        with patch.context() as interrupted:
            interrupt_after(2, interrupted)
            code, said = typed(home, ("fulltrain", "runs/search-001", "--top", "1"), patch)
            assert code != 0, said
        shutil.copytree(fulltrain, home / "half")
        code, said = typed(home, ("fulltrain", "runs/search-001", "--top", "1"), patch)
        assert code == 0, said
    return found


def interrupt_after(step: int, patch: pytest.MonkeyPatch) -> None:
    """Ctrl-C as soon as a checkpoint of that many iterations was written."""
    from nasperc.training.training_run import TrainingRun

    save = TrainingRun.save

    def saved(run: TrainingRun) -> None:
        save(run)
        if run.step == step:
            raise KeyboardInterrupt

    patch.setattr(TrainingRun, "save", saved)


def flip(path: Path, chosen: random.Random) -> str:
    """Flip one bit; where."""
    content = bytearray(path.read_bytes())
    place, bit = chosen.randrange(len(content)), chosen.randrange(8)
    content[place] ^= 1 << bit
    path.write_bytes(content)
    return f"byte {place}, bit {bit} of {path.name}"


@pytest.mark.parametrize(
    "flips", [2, pytest.param(20, marks=pytest.mark.faults)], ids=["a_few_flips", "many_flips"]
)
@pytest.mark.parametrize("name", VICTIMS)
def test_no_flipped_bit_changes_a_result_without_a_word(
    name: str,
    flips: int,
    homes: dict[str, Path],
    tmp_path: Path,
    tally: Tally,
    moments: random.Random,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    victim = VICTIMS[name]
    wanted, undamaged = None, 0
    # The first time without a flip: what has to come out.
    for attempt in range(flips + 1):
        home = tmp_path / str(attempt)
        shutil.copytree(homes[victim.home], home, symlinks=True)
        victim.prepare(home)
        before = rewards(home)
        damaged = next(home.glob(victim.file))
        where = flip(damaged, moments) if attempt else ""
        if "checkpoint.pt" in victim.command:
            damaged.rename(home / "checkpoint.pt")
        code, said = typed(home, victim.command, monkeypatch)
        # Words are wrapped where the line ends; what is said of an undamaged file does not count.
        unwrapped = "".join(said.split())
        times = unwrapped.count(damaged.name)
        if not attempt:
            assert code == 0, said
            wanted, undamaged = victim.result(home), times
            continue
        named = times > undamaged or damaged.name in unwrapped.partition("error:")[2]
        same = code == 0 and victim.result(home) == wanted
        if code == 2 and named:
            outcome = "refused"
        elif code == 0 and same:
            outcome = "mended" if named else "without effect"
        else:
            outcome = "said" if code == 0 and named else "silently wrong"
        tally.damaged(f"a bit of the {name}", outcome, gone=len(set(before) - set(rewards(home))))
        assert outcome != "silently wrong", f"{where}: exit code {code}\n{said}"
        shutil.rmtree(home)
