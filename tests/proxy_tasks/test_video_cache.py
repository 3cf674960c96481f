"""What is in the caches, against the static network run on each view of each frame."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_video import SIZE, tiny_task

from feature_cache.verify import verify
from nasperc.data.batch import collate
from nasperc.data.sample import SEMANTIC_IGNORE
from nasperc.training.segmentation_losses import reduce_labels
from proxy_tasks.base import no_progress
from proxy_tasks.video_cache import LABELS
from proxy_tasks.video_segmentation import VideoSegmentationProxy
from proxy_tasks.video_setup import VideoSetup
from proxy_tasks.video_views import train_views, val_frames

LEVELS = ("layer2", "layer3", "layer4", "dec")


@pytest.fixture(scope="module")
def exact_task(video_folder: Path) -> VideoSegmentationProxy:
    """float32, so that nothing is rounded."""
    task = tiny_task(video_folder, dtype="float32")
    task.prepare()
    return task


def samples(setup: VideoSetup, part: str) -> list:
    if part == "train":
        return list(train_views(setup.dataset, setup.parts["train"], setup.recipe, setup.normalisation))
    return list(val_frames(setup.dataset, setup.parts["val"], setup.recipe))


def outputs(task: VideoSegmentationProxy, chunk: list) -> list[torch.Tensor]:
    images = collate(chunk, task.setup.normalisation, divisor=1).images
    with torch.inference_mode():
        features = task.static.encode(images)
        return [*features[-3:], task.static.decode(features).dec]


@pytest.mark.parametrize("part", ["train", "val"])
def test_records_are_bit_for_bit_what_the_static_network_gives(
    exact_task: VideoSegmentationProxy, part: str
) -> None:
    reader = exact_task.setup.open(part)
    frames = samples(exact_task.setup, part)
    assert len(frames) == len(reader) == len(exact_task.setup.parts[part])
    # In the chunks that the writer had: another batch may round otherwise.
    chunks = [frames[start : start + 8] for start in range(0, len(frames), 8)]
    computed = [
        torch.cat(maps) for maps in zip(*(outputs(exact_task, chunk) for chunk in chunks), strict=True)
    ]
    for name, maps in zip(LEVELS, computed, strict=True):
        assert torch.equal(reader.tensor(name), maps.permute(0, 2, 3, 1)), name
    verify(reader.path)


def test_half_precision_is_the_same_rounded(
    exact_task: VideoSegmentationProxy, video_task: VideoSegmentationProxy
) -> None:
    for part in ("train", "val"):
        exact, half = exact_task.setup.open(part), video_task.setup.open(part)
        for name in LEVELS:
            assert torch.equal(exact.tensor(name).half(), half.tensor(name))
        assert torch.equal(exact.tensor(LABELS), half.tensor(LABELS))


def test_labels_of_meta_train_have_the_size_of_the_logits_unless_the_recipe_says_otherwise(
    exact_task: VideoSegmentationProxy, tmp_path: Path, video_folder: Path
) -> None:
    setup = exact_task.setup
    truth = torch.stack([sample.semantic for sample in samples(setup, "train")])
    assert truth.shape[1:] == (64, 64)
    kept = setup.open("train").tensor(LABELS)
    assert torch.equal(kept.long(), reduce_labels(truth, (8, 8)))
    whole = tiny_task(video_folder, dtype="float32", loss_size="labels").setup
    whole.build(no_progress)
    assert torch.equal(whole.open("train").tensor(LABELS).long(), truth)
    assert whole.path("val") == setup.path("val")


def test_meta_val_is_not_transformed_and_keeps_its_annotation(video_folder: Path) -> None:
    setup = tiny_task(video_folder, long_side=64).setup
    setup.build(no_progress)
    reader = setup.open("val")
    assert reader.header.attributes["frame_size"] == [48, 64]
    for place, frame in enumerate(setup.parts["val"].frames):
        assert torch.equal(reader.tensor(LABELS)[place].long(), setup.dataset[frame].semantic)
    assert reader.tensor(LABELS).shape[1:] == SIZE


def test_sequences_that_overlap_share_the_records_of_their_frames(video_task: VideoSegmentationProxy) -> None:
    train = video_task.setup.parts["train"]
    records = train.records()
    assert len(records) == 2 * len(train.sequences)
    assert len(train) == 2 * len(train.frames) == records.unique().numel()
    assert len(train) < records.numel()
    # One view of one sequence: frames that follow one another.
    assert (records.diff(dim=1) == 1).all()
    assert int(records[: len(train.sequences)].max()) < len(train.frames)


def test_no_frame_is_in_both_parts(video_task: VideoSegmentationProxy) -> None:
    parts = video_task.setup.parts
    assert set(parts["train"].frames).isdisjoint(parts["val"].frames)


def test_a_batch_is_the_records_of_its_sequences(video_task: VideoSegmentationProxy) -> None:
    cache, setup = video_task.cache, video_task.setup
    for part, first in (("train", 0), ("val", cache.train)):
        reader, records = setup.open(part), setup.parts[part].records()
        indices = torch.tensor([1, 0]) + first
        batch = cache.load(indices)
        for row, sequence in enumerate(records[[1, 0]].tolist()):
            for name, state in (("layer4", batch.state.layer4), ("dec", batch.state.dec)):
                assert torch.equal(state[row], reader.tensor(name)[sequence[0]].permute(2, 0, 1).float())
            for place, frame in enumerate(sequence[1:]):
                for name, level in zip(LEVELS, batch.frames[place], strict=False):
                    assert torch.equal(level[row], reader.tensor(name)[frame].permute(2, 0, 1).float())
                    assert level.is_contiguous(memory_format=torch.channels_last)
                assert torch.equal(batch.labels[place][row], reader.tensor(LABELS)[frame].long())


def test_val_batches_are_all_sequences_of_meta_val(video_task: VideoSegmentationProxy) -> None:
    batches = list(video_task.cache.val_batches(3))
    assert sum(len(batch.labels[0]) for batch in batches) == len(video_task.setup.parts["val"].sequences)
    assert {len(batch.frames) for batch in batches} == {2}


def test_the_second_view_is_the_first_one_s_window_drawn_anew_and_mirrored(video_folder: Path) -> None:
    setup = tiny_task(video_folder, crop=SIZE).setup
    frames = samples(setup, "train")
    half = len(frames) // 2
    # Nothing to crop: the views differ by the mirror alone.
    for one, other in zip(frames[:half], frames[half:], strict=True):
        assert torch.equal(one.image.flip(-1), other.image)
        assert torch.equal(one.semantic.flip(-1), other.semantic)


def test_the_frames_of_a_run_share_their_window(video_task: VideoSegmentationProxy) -> None:
    setup = video_task.setup
    part = setup.parts["train"]
    views = list(islice(samples(setup, "train"), len(part.frames)))
    windows = {}
    for frame, view in zip(part.frames, views, strict=True):
        image = setup.dataset[frame].image
        (found,) = [
            (top, left)
            for top in range(SIZE[0] - 63)
            for left in range(SIZE[1] - 63)
            if torch.equal(image[:, top : top + 64, left : left + 64], view.image)
        ]
        run = next(number for number, run in enumerate(setup.dataset.runs) if frame in run)
        assert windows.setdefault(run, found) == found
    assert len(set(windows.values())) > 1


def test_camvid_is_padded_to_480x400_and_never_cropped() -> None:
    """Thesis 6.4.1: a crop of 600 of a frame whose short side is padded to 400."""
    from nasperc.data.normalisation import get_normalisation
    from nasperc.data.sample import Meta, Sample
    from proxy_tasks.video_recipe import VideoProxyRecipe
    from proxy_tasks.video_views import _transform

    image = torch.randint(0, 255, (3, 360, 480), dtype=torch.uint8)
    sample = Sample(image, Meta(1, Path("x"), (360, 480)), semantic=torch.zeros(360, 480, dtype=torch.int64))
    transform = _transform(VideoProxyRecipe(), get_normalisation("tf"), mirrored=False)
    seen = transform(sample, np.random.default_rng(0))
    assert seen.image.shape == (3, 400, 480)
    assert torch.equal(seen.image[:, 20:380], image)
    assert (seen.semantic[:20] == SEMANTIC_IGNORE).all()
    assert (seen.image[:, :20] == 128).all()
