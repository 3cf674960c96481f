"""A tiny video task for tests: four synthetic videos of eight frames, a narrow network that was not trained."""

from __future__ import annotations

from pathlib import Path

from controllers.base import Candidate
from nasperc.assembly.recipe import ModelRecipe
from nasperc.data.recipe import DataRecipe, SyntheticVideoRecipe
from nasperc.models.backbones.build import BackboneRecipe
from nasperc.training.segmentation_recipe import StaticTrainingRecipe, VideoTrainingRecipe
from proxy_tasks.base import TaskContext
from proxy_tasks.video_recipe import VideoProxyRecipe
from proxy_tasks.video_segmentation import VideoSegmentationProxy
from search_spaces.dynamic_cell import DynamicCell, DynamicCellRecipe

# (H, W): not a multiple of 32, as CamVid's is not.
SIZE = (72, 96)
# Each operation and each aggregation but one at least once; the four results but the last one are read.
SEARCHED = (1, 2, 0, 1, 2, 5, 3, 2, 3, 3, 6, 0, 5, 4, 5, 7, 4, 0, 4, 0)
# (layer 4 before, layer 2) and so on: a cell of skips and sums.
PLAIN = (1, 2, 4, 4, 0, 5, 3, 4, 4, 0, 6, 4, 4, 4, 0, 7, 0, 4, 4, 0)


def tiny_recipe(**changes: object) -> VideoProxyRecipe:
    values = {
        "pad": None,
        "crop": (64, 64),
        "views": 2,
        "flip": True,
        "meta_val": 0.2,
        "block": 4,
        "batch_size": 4,
        "epochs": 1,
        # A larger one would soon see background everywhere, whatever the cell.
        "learning_rate": 2e-3,
        "bn_batches": 2,
        "val_batch_size": 3,
    }
    return VideoProxyRecipe.model_validate(values | changes)


def tiny_context(folder: Path, *, decoder: str = "arch2", seed: int = 0) -> TaskContext:
    # One step that changes nothing, so that the first predictions are anything.
    rates = {"encoder_learning_rate": 1e-6, "decoder_learning_rate": 1e-6}
    static = StaticTrainingRecipe(epochs=0.1, batch_size=4, crop=SIZE, optimizer="adam", **rates)
    backbone = BackboneRecipe(width_mult=0.35, normalisation="imagenet")
    return TaskContext(
        space=DynamicCell(DynamicCellRecipe(variant="4_layers", width=16)),
        model=ModelRecipe.model_validate({"backbone": backbone, "segmentation_decoder": decoder}),
        data=DataRecipe(synthetic_video=SyntheticVideoRecipe(train=4, val=1, test=1, frames=8, size=SIZE)),
        folder=folder,
        seed=seed,
        sections={"video": VideoTrainingRecipe(static=static)},
    )


def tiny_task(folder: Path, **changes: object) -> VideoSegmentationProxy:
    return VideoSegmentationProxy(tiny_recipe(**changes), tiny_context(folder))


def tiny_candidate(
    task: VideoSegmentationProxy, cell: tuple[int, ...] = SEARCHED, seed: int = 7, **fields: object
) -> Candidate:
    values = {"id": 0, "stage": "cell", "widths": {"cell": 16}, "hash": "0", "seed": seed} | fields
    return Candidate(architecture=task.space.architecture({"cell": cell}), **values)  # type: ignore[arg-type]
