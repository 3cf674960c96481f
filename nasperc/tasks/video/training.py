"""Full training of dynamic cells end to end, beside the per-frame network at an equal budget (thesis 6.4.2)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from nasperc.assembly.datasets import check_shows_class, open_video_split
from nasperc.assembly.detector import Searched
from nasperc.assembly.segmenter import build_video
from nasperc.assembly.static_network import (
    LOCK,
    old_static_contents,
    prepared_static,
    static_contents,
    static_path,
)
from nasperc.data.normalisation import get_normalisation
from nasperc.data.video import VideoDataset
from nasperc.evaluation.latency import Latency
from nasperc.evaluation.video_latency import measure_video_latency
from nasperc.models.segmenter import Segmenter
from nasperc.models.video_segmenter import VideoSegmenter
from nasperc.old_files import PIXELS_NOT_KNOWN
from nasperc.recipe.root import Recipe
from nasperc.tasks.row import CHECKPOINT, Activity, Job
from nasperc.tasks.training import LATENCY_RUNS, LATENCY_WARMUP, Found, Phase, Splits, Training
from nasperc.tasks.video.tables import VideoTables, video_metrics
from nasperc.tasks.video.trained import TrainedSegmenter, describe_segmenter, read_cell
from nasperc.torch_files import file_sha256
from nasperc.training.device import to_device
from nasperc.training.peers import Peers
from nasperc.training.segment import segment_dataset
from nasperc.training.segmenter_plans import cell_plan, end_to_end_plan
from proxy_tasks.folder_lock import folder_lock

BASELINE = "per-frame baseline"
# Of the first phase, beside the checkpoint of the whole.
CELL_CHECKPOINT = "cell.pt"

Network = VideoSegmenter | Segmenter


class VideoTraining(Training[Network, VideoDataset]):
    """The recipe's sections ``model``, ``video`` and ``seed`` count.

    An entry is trained in two phases, the cell alone and everything; the per-frame baseline in the second one only,
    since in the first the static network is frozen: its batches, and the frames of them that have a loss, are those
    of the entries.
    """

    presentation = VideoTables()
    examples = TrainedSegmenter.examples
    rate = "video.end_to_end.cell_learning_rate"

    def __init__(self, recipe: Recipe, prepared: Path, searched: Recipe, found: Found | None) -> None:
        super().__init__(recipe, prepared, searched, found)
        self._prepared, self._found = prepared, found or Found()
        # The static network is the search's, made with its proxy task's seed: it is not trained twice.
        self._static_seed = int(searched.proxy.options["seed"])
        self.splits = Splits(recipe.data, lambda role: open_video_split(recipe.data, role, prepared))
        measured = [split for role, split in self.splits.items() if role != "train"]
        self.size = measured[0].frames[0].size
        # Asked for before anything is trained: there may be none.
        sequences = self.splits["train"].sequences(recipe.video.sequence_length)
        self._sequences = len(sequences)
        later = sorted({frame for sequence in sequences for frame in sequence[1:]})
        check_shows_class(self.splits["train"], later, "the train split after the first frame of a sequence")
        for split in measured:
            split.sequences(recipe.video.sequence_length)
        self._normalisation = get_normalisation(recipe.model.backbone.input_normalisation())
        self._static: Segmenter | None = None
        self._static_file: Path | None = None

    def baselines(self, jobs: Sequence[Job]) -> list[Job]:
        return [Job(BASELINE, "per-frame", None)]

    def iterations(self, job: Job) -> int:
        cell, everything = self._phase_iterations()
        return everything if job.part is None else cell + everything

    def budget(self) -> str:
        cell, everything = self._phase_iterations()
        return f"{cell} iterations of the cell alone and {everything} of everything each (the baseline: {everything})"

    def prepare(self, on_activity: Activity) -> list[str]:
        """The static network, from its file or trained now."""
        contents, notes = self._static_contents()
        # A search may be at it.
        with folder_lock(self._prepared / LOCK):
            self._static, self._static_file = prepared_static(
                self.recipe.model,
                self.recipe.video.static,
                self.splits["train"],
                self._prepared,
                self._static_seed,
                lambda phase, fraction: on_activity(phase, fraction, ""),
                contents,
            )
        return notes + self._other_than_searched()

    def _static_contents(self) -> tuple[dict[str, Any], list[str]]:
        """What the static network depends on, and what should be said of it: entries of an old search keep the network
        that they were found on, if it is still there."""
        split, found = self.splits["train"], self._found
        contents = static_contents(self.recipe.model, self.recipe.video.static, split, self._static_seed)
        if found.data.get("fingerprint") == split.old_fingerprint():
            old = old_static_contents(contents, split.old_fingerprint())
            path = static_path(self._prepared, old)
            if path.is_file() and file_sha256(path) == found.weights.get("static_sha256"):
                return old, [
                    f"{PIXELS_NOT_KNOWN}: the search began before the bytes of images were looked at; its per-frame "
                    "network is the one that it was given then"
                ]
        return contents, []

    def _other_than_searched(self) -> list[str]:
        path, weights = self._static_file, self._found.weights
        assert path is not None
        wanted, found = weights.get("static_sha256"), file_sha256(path)
        if path.name != weights.get("static_file") or wanted in (None, found):
            return []
        return [
            f"{path} is not the per-frame network that the search had (SHA-256 {found[:16]} instead of "
            f"{str(wanted)[:16]}): it was trained again by the same recipe"
        ]

    def about(self) -> dict[str, Any]:
        return {"static_network": str(self._static_file)}

    def build(self, job: Job) -> tuple[Network, dict[str, Any]]:
        assert self._static is not None
        model: Network = copy.deepcopy(self._static)
        if job.part is not None:
            assert isinstance(job.part, Searched)
            assert isinstance(model, Segmenter)
            model = build_video(self.recipe.model, job.part, len(self.splits["train"].classes), model)
        to_device(model)
        params = sum(parameter.numel() for parameter in model.parameters())
        return model, {"depth": None, "flops": None, "params": params}

    def measure(self, model: Network, split: str, on_activity: Activity) -> dict[str, Any]:
        """Over whole runs, and over sequences as short as those of the training."""
        dataset, evaluations = self.splits[split], []
        for length in (None, self.recipe.video.sequence_length):
            evaluations.append(
                segment_dataset(
                    model,
                    dataset,
                    self._normalisation,
                    sequence_length=length,
                    trimap_width=3 if length is None else None,
                    on_frame=partial(self.tell_measured, on_activity, split),
                )
            )
        runs, sequences = evaluations
        return video_metrics(runs, sequences, dataset.classes)

    def can_measure(self, split: str) -> bool:
        return self.splits[split].shows_class(self.splits[split].annotated())

    def latency(self, model: Network) -> Latency:
        """Of a frame that is not the first."""
        return measure_video_latency(model, self.size, runs=LATENCY_RUNS, warmup=LATENCY_WARMUP).following

    def _phase_iterations(self) -> tuple[int, int]:
        video = self.recipe.video
        return video.cell.iterations(self._sequences), video.end_to_end.iterations(self._sequences)

    def describe(self, job: Job) -> dict[str, Any]:
        assert job.part is None or isinstance(job.part, Searched)
        return describe_segmenter(self.recipe.model, job.part, self.recipe.space)

    def part(self, description: Mapping[str, Any], where: str) -> Searched | None:
        return read_cell(description, where)

    def phases(self, model: Network, job: Job, peers: Peers | None = None) -> list[Phase]:
        """The cell alone, then everything."""
        assert peers is None
        assert self._static_file is not None
        train_split, recipe = self.splits["train"], self.recipe
        identity = {
            **self.describe(job),
            "training": recipe.video.model_dump(mode="json"),
            # Its name says what it was trained with.
            "static_network": self._static_file.stem,
            "seed": recipe.seed,
            "data": train_split.fingerprint(),
            "images": train_split.rules.model_dump(mode="json"),
            "classes": list(train_split.classes),
            "normalisation": self._normalisation.name,
        }
        common: dict[str, Any] = {"normalisation": self._normalisation, "seed": recipe.seed}
        both = partial(end_to_end_plan, model, train_split, recipe.video, **common)
        phases = [Phase(CHECKPOINT, both(identity={**identity, "phase": "end_to_end"}))]
        if isinstance(model, VideoSegmenter):
            cell = cell_plan(
                model, train_split, recipe.video, **common, identity={**identity, "phase": "cell"}
            )
            phases.insert(0, Phase(CELL_CHECKPOINT, cell))
        return phases
