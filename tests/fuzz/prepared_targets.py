"""Readers of what lies beside the data and the runs: prepared files, lists, label maps, views of journals."""

from __future__ import annotations

import io
import json
import zlib
from pathlib import Path
from typing import Any

from image_targets import picture
from run_targets import _table as table_space
from run_targets import searched_file
from target import Read, dump, reference_architecture
from weight_targets import _saved as saved
from weight_targets import cache_seeds


def hurtful_pictures() -> list[bytes]:
    """A PNG, one of 60,000 x 60,000 pixels in a hundred bytes, and one with a text that unpacks to 64 MiB."""
    size = (60_000).to_bytes(4, "big")
    header = _chunk(b"IHDR", size * 2 + b"\x08\x02\x00\x00\x00")
    end = _chunk(b"IDAT", zlib.compress(b"\0" * 64)) + _chunk(b"IEND", b"")
    bomb = _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"\0" * (64 << 20), 9))
    small = picture("PNG")
    return [small, small[:8] + header + end, small[:33] + bomb + small[33:]]


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content).to_bytes(4, "big")
    return len(content).to_bytes(4, "big") + kind + content + checksum


def label_maps() -> list[bytes]:
    import numpy as np
    from PIL import Image

    ids = Image.fromarray(np.random.default_rng(0).integers(0, 12, (6, 8), np.uint8))
    palette = ids.convert("P")
    found = []
    for image in (ids, palette):
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        found.append(buffer.getvalue())
    return [*found, *hurtful_pictures(), picture("TIFF")]


def open_camvid(folder: Path) -> Read:
    """The list of a split, and the names of the classes."""
    from nasperc.data.formats import open_video

    for name in ("train", "trainannot"):
        (folder / name).mkdir()
    for number in (1, 2):
        (folder / "train" / f"a{number}.png").write_bytes(picture("PNG"))
        (folder / "trainannot" / f"a{number}.png").write_bytes(label_maps()[0])

    def read(data: bytes) -> None:
        lines, _, classes = data.partition(b"--\n")
        (folder / "train.txt").write_bytes(lines)
        (folder / "classes.txt").write_bytes(classes)
        open_video(folder, "train").fingerprint()

    return read


CAMVID = b"a1\na2\n--\nroad\nsky\ncar\ntree\na\nb\nc\nd\ne\nf\ng\n"


def open_marker(folder: Path) -> Read:
    """What says which synthetic data set a folder holds."""
    from nasperc.data.written_once import MARKER, write_once

    (folder / "data").mkdir()

    def read(data: bytes) -> None:
        (folder / "data" / MARKER).write_bytes(data)
        write_once(folder / "data", {"seed": 1, "images": {"train": 2}}, lambda path: None)

    return read


def open_decoder(folder: Path) -> Read:
    """The architecture file that a recipe names."""
    from nasperc.assembly.decoder_recipe import DecoderRecipe, recipe_decoder
    from nasperc.recipe.reading import parse_recipe
    from nasperc.search.components import build_space

    space = build_space(parse_recipe({}, where="fuzz"))
    recipe = DecoderRecipe(name="searched", architecture=str(folder / "a.json"))

    def read(data: bytes) -> None:
        (folder / "a.json").write_bytes(data)
        recipe_decoder(recipe, space)

    return read


def decoder_seeds() -> list[bytes]:
    return [dump(reference_architecture())]


def finetuned_seeds() -> list[bytes]:
    import torch

    state = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}
    return [saved({"format": "nasperc-backbone/1", "description": {"a": 1}, "state_dict": state})]


def open_finetuned(folder: Path) -> Read:
    from torch import nn

    from nasperc.models.backbones.weights import load_backbone_weights
    from proxy_tasks.finetune import is_finetuned

    def read(data: bytes) -> None:
        (folder / "w.pt").write_bytes(data)
        is_finetuned(folder / "w.pt")
        load_backbone_weights(nn.Linear(3, 2), folder / "w.pt")

    return read


def header_seeds() -> list[bytes]:
    """The signed header that a run keeps beside a cache."""
    import tempfile

    from feature_cache.opening import read_header

    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "c.h5"
        path.write_bytes(cache_seeds()[0])
        read_header(path)
        return [file.read_bytes() for file in Path(name).glob(".*.header")]


def open_header(folder: Path) -> Read:
    """Whatever stands there, signed or not: the cache is read as if there were none."""
    from feature_cache import opening

    path = folder / "c.h5"
    path.write_bytes(cache_seeds()[0])

    def read(data: bytes) -> None:
        opening._record(path).write_bytes(data)
        header = opening._signed_header(path)
        # Signed by this run it must be a header of this file, which no change of another one is.
        assert header is None

    return read


def open_loss_log(folder: Path) -> Read:
    """A training that is continued below what an earlier one has logged."""
    from nasperc.fulltrain.loss_log import LossLog

    def read(data: bytes) -> None:
        (folder / "log.csv").write_bytes(data)
        with LossLog(folder / "log.csv") as log:
            log.write(3, {"classes": 0.5, "boxes": 0.25})
        for line in (folder / "log.csv").read_text(encoding="utf-8").splitlines():
            assert not line.startswith(("=", "+", "-", "@"))

    return read


LOSSES = b"iteration,classes,boxes\n1,0.5,0.25\n2,0.4,-0.2\n3,0.1,0.1\n"


def pareto_seeds() -> list[bytes]:
    from document_targets import top10_seeds

    top10 = json.loads(top10_seeds()[0])
    entries = [{**entry, "stage": "head"} for entry in top10["entries"]]
    front = {"stage": "head", "cost": "flops", "entries": entries}
    return [dump({"format": "nasperc-pareto/1", "recipe": top10["recipe"], "fronts": [front]})]


def open_pareto(folder: Path) -> Read:
    from nasperc.search.pareto import read_pareto

    def read(data: bytes) -> None:
        (folder / "pareto.json").write_bytes(data)
        read_pareto(folder / "pareto.json")

    return read


def open_reported(folder: Path) -> Read:
    """Everything that shows a journal: the live views, the rankings, what ``nasperc report`` computes."""
    from controllers.service.journal import Journal
    from nasperc.report.pareto import pareto_panels
    from nasperc.report.reward_curve import reward_curves
    from nasperc.report.sampling import sampling_proportions
    from nasperc.report.search_metrics import metric_curves
    from nasperc.report.weight_sharing import fully_shared

    space = table_space(folder)

    def read(data: bytes) -> None:
        (folder / "journal.jsonl").write_bytes(data)
        events = Journal.read(folder / "journal.jsonl")
        reward_curves(events)
        pareto_panels({"run": events})
        metric_curves(events)
        sampling_proportions(events, space)
        fully_shared(events, space)

    return read


def open_warm_start(folder: Path) -> Read:
    """The journal of another run, from which a controller is to learn."""
    from controllers.service.plan import SearchPlan
    from controllers.service.warm_start import WarmStart

    space = table_space(folder)
    start = WarmStart((folder,), space, None, SearchPlan(seed=1, candidates=3, snapshot_every=4))

    def read(data: bytes) -> None:
        (folder / "journal.jsonl").write_bytes(data)
        start.check()
        (stage,) = space.stages()
        start.evaluations(stage, stage.fixed)

    return read


def journal_seeds() -> list[bytes]:
    return [searched_file("journal.jsonl")]


def open_video_results(folder: Path) -> Read:
    """``metrics.json`` of a network for videos."""
    from nasperc.fulltrain.entry_run import _measured_before, _read_row
    from nasperc.fulltrain.results import Results, to_markdown
    from nasperc.tasks.row import Row
    from nasperc.tasks.video.tables import VideoTables

    class Split:
        def fingerprint(self) -> str:
            return "f"

    def read(data: bytes) -> None:
        (folder / "metrics.json").write_bytes(data)
        row = _read_row(folder / "metrics.json")
        metrics: Any = _measured_before(row, {"val": Split()}, VideoTables())  # type: ignore[dict-item]
        shown = Row("a", "done", 1, "h", {}, None, 0.5, 1, 1, (360, 480), metrics=metrics)
        if metrics:
            text = to_markdown(Results((shown,), "val", "val", VideoTables()))
            assert text.replace("\n", "").isprintable()

    return read


def video_results_seeds() -> list[bytes]:
    values = dict.fromkeys(("miou", "macc", "gacc", "fwiou", "tiou"), 0.5)
    values |= {"classes": {"road": 0.5}, "sequences": {"1": 0.5, "2": None}, "runs": {"1": 0.5}}  # type: ignore[dict-item]
    return [dump({"metrics": {"val": values}, "measured_on": {"val": "f"}, "cost_size": [360, 480]})]
