"""One tiny prepared detection task for all tests: 12 synthetic images, crops of 64 pixels, a narrow backbone.

Its functions begin with ``tiny``; those of the video task are in ``tiny_video.py``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from controllers.base import Candidate
from nasperc.assembly.recipe import ModelRecipe
from nasperc.data.recipe import DataRecipe, SyntheticRecipe
from nasperc.models.backbones.build import BackboneRecipe
from proxy_tasks.base import TaskContext
from proxy_tasks.detection import DetectionProxy
from proxy_tasks.detection_recipe import DetectionProxyRecipe
from proxy_tasks.video_segmentation import VideoSegmentationProxy
from search_spaces.base import ORIGINAL
from search_spaces.fcos_decoder import FcosDecoder
from search_spaces.fcos_recipe import FcosDecoderRecipe

# The contract that tests of this folder share.
sys.path.append(str(Path(__file__).parent))

WIDTHS = {"fpn": 32, "head": 32}
# Blocks of all five operations and both aggregations; P3, P4, P5 from the last three.
SEARCHED = (
    0,
    1,
    0,
    1,
    0,
    1,
    2,
    3,
    4,
    1,
    2,
    3,
    2,
    0,
    0,
    4,
    5,
    3,
    3,
    1,
    6,
    3,
    0,
    3,
    0,
    6,
    2,
    3,
    3,
    1,
    7,
    1,
    3,
    3,
    0,
)


def tiny_recipe(**changes: object) -> DetectionProxyRecipe:
    values = {
        "short_side": 80,
        "crop": 64,
        "views": 2,
        "batch_size": 4,
        "iterations": 4,
        "learning_rate": 5e-3,
        "finetune": False,
        "bn_batches": 2,
        "val_batch_size": 3,
    }
    return DetectionProxyRecipe.model_validate(values | changes)


def tiny_context(folder: Path, weights: Path | None = None) -> TaskContext:
    backbone = BackboneRecipe(width_mult=0.35, weights=weights, normalisation="imagenet")
    synthetic = SyntheticRecipe(train=12, val=1, test=1, size=(96, 96))
    return TaskContext(
        space=FcosDecoder(FcosDecoderRecipe()),
        model=ModelRecipe(backbone=backbone),
        data=DataRecipe(synthetic=synthetic),
        folder=folder,
        seed=0,
    )


def tiny_candidate(
    task: DetectionProxy, fpn: tuple[int, ...] | None = SEARCHED, seed: int = 7, **fields: object
) -> Candidate:
    architecture = task.space.architecture({"fpn": fpn or ORIGINAL, "head": ORIGINAL})
    values = {"id": 0, "stage": "fpn", "widths": WIDTHS, "hash": "0", "seed": seed} | fields
    return Candidate(architecture=architecture, **values)  # type: ignore[arg-type]


def tiny_task(folder: Path) -> DetectionProxy:
    return DetectionProxy(tiny_recipe(), tiny_context(folder))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """As a worker runs; many threads on tiny tensors wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# Test modules cannot import this one, so its functions reach them as fixtures.
@pytest.fixture(scope="session")
def make_recipe() -> Callable[..., DetectionProxyRecipe]:
    return tiny_recipe


@pytest.fixture(scope="session")
def make_context() -> Callable[..., TaskContext]:
    return tiny_context


@pytest.fixture(scope="session")
def make_candidate() -> Callable[..., Candidate]:
    return tiny_candidate


@pytest.fixture(scope="session")
def make_task() -> Callable[[Path], DetectionProxy]:
    return tiny_task


@pytest.fixture(scope="session")
def prepared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("proxy")
    tiny_task(folder).prepare()
    return folder


@pytest.fixture
def task(prepared_folder: Path) -> DetectionProxy:
    task = tiny_task(prepared_folder)
    task.prepare()
    return task


@pytest.fixture(scope="session")
def video_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_video import tiny_task as tiny_video_task

    folder = tmp_path_factory.mktemp("video")
    tiny_video_task(folder).prepare()
    return folder


@pytest.fixture
def video_task(video_folder: Path) -> VideoSegmentationProxy:
    from tiny_video import tiny_task as tiny_video_task

    task = tiny_video_task(video_folder)
    task.prepare()
    return task
