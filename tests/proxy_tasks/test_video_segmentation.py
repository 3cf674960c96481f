"""The video proxy task as the search sees it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_video
import torch
from cached_task_contract import CachedTaskContract
from tiny_video import SIZE, tiny_candidate, tiny_context, tiny_recipe, tiny_task

from nasperc.data.image_rules import ImageRules
from nasperc.data.label_map import write_label_map
from nasperc.data.synthetic_video import write_synthetic_video
from nasperc.errors import InputError
from nasperc.evaluation.cost import measure_cost
from nasperc.evaluation.video_latency import FollowingFrame
from nasperc.models.video_segmenter import VideoSegmenter
from proxy_tasks.base import TaskContext
from proxy_tasks.video_segmentation import VideoSegmentationProxy
from search_spaces.fcos_decoder import FcosDecoder
from search_spaces.fcos_recipe import FcosDecoderRecipe


class TestVideoSegmentation(CachedTaskContract):
    tiny = Path(tiny_video.__file__)
    caches = 2

    @pytest.fixture
    def prepared_folder(self, video_folder: Path) -> Path:
        return video_folder

    @pytest.fixture
    def make_task(self) -> Callable[[Path], VideoSegmentationProxy]:
        return tiny_task

    @pytest.fixture
    def make_candidate(self) -> Callable[..., object]:
        return tiny_candidate


def test_a_result_carries_the_metrics_of_its_reward(video_task: VideoSegmentationProxy) -> None:
    result = video_task.evaluate(tiny_candidate(video_task))
    assert result.reward is not None
    metrics = result.metrics
    product = metrics["miou"] * metrics["fwiou"] * metrics["macc"]
    assert result.reward == pytest.approx(product ** (1 / 3))
    assert 0 < metrics["gacc"] < 1
    assert {name for name in metrics if name.startswith("seconds")} == {
        "seconds_training",
        "seconds_measuring",
    }


def test_costs_are_those_of_encoder_and_cell(video_task: VideoSegmentationProxy) -> None:
    candidate = tiny_candidate(video_task)
    cell = video_task.modules(candidate)["cell"]
    cost = video_task.cost(candidate)
    encoder = video_task.static.backbone
    assert cost["params"] == sum(p.numel() for part in (encoder, cell) for p in part.parameters())
    size = video_task.cache.frame_size
    frame = FollowingFrame(VideoSegmenter(video_task.static, cell).eval(), size)
    # Of the network as it runs on a frame that follows another: without the decoder of the static network.
    assert cost["flops"] == measure_cost(frame, size).flops
    assert cost["flops"] < measure_cost(video_task.static, size).flops


def test_the_cell_s_classifier_starts_as_the_static_network_s(video_task: VideoSegmentationProxy) -> None:
    cell = video_task.modules(tiny_candidate(video_task))["cell"]
    assert torch.equal(cell.classifier.weight, video_task.static.classifier.weight)
    assert cell.classifier.weight is not video_task.static.classifier.weight


def test_no_candidate_changes_the_static_network(video_task: VideoSegmentationProxy) -> None:
    before = {name: tensor.clone() for name, tensor in video_task.static.state_dict().items()}
    video_task.evaluate(tiny_candidate(video_task))
    video_task.cost(tiny_candidate(video_task))
    for name, tensor in video_task.static.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert not video_task.static.training


def test_runs_of_other_seeds_share_what_was_prepared(video_folder: Path) -> None:
    other = VideoSegmentationProxy(tiny_recipe(), tiny_context(video_folder, seed=5))
    phases: list[str] = []
    other.prepare(lambda phase, fraction: phases.append(phase))
    assert phases == []


def test_the_fingerprint_covers_recipe_split_and_static_network(video_task: VideoSegmentationProxy) -> None:
    context = video_task.setup.context
    changes: list[dict[str, object]] = [{}, {"epochs": 2}, {"views": 1}, {"seed": 1}, {"sequence_length": 2}]
    prints = {VideoSegmentationProxy(tiny_recipe(**each), context).fingerprint() for each in changes}
    other = replace(context, model=tiny_context(context.folder, decoder="deeplab_v3_plus").model)
    prints.add(VideoSegmentationProxy(tiny_recipe(), other).fingerprint())
    assert len(prints) == 6
    assert video_task.fingerprint() in prints


def test_the_cache_is_of_the_rules_that_images_were_read_by(video_task: VideoSegmentationProxy) -> None:
    context = video_task.setup.context
    other = replace(context, data=context.data.model_copy(update={"exif": "apply"}))
    task = VideoSegmentationProxy(video_task.recipe, other)
    assert task.setup.dataset.rules == ImageRules(exif="apply")
    assert task.setup.path("train") != video_task.setup.path("train")
    assert task.setup.path("val") != video_task.setup.path("val")


def test_pairs_and_triplets_share_the_cache_of_the_same_frames(video_task: VideoSegmentationProxy) -> None:
    setup = video_task.setup
    pairs = VideoSegmentationProxy(tiny_recipe(sequence_length=2), setup.context).setup
    assert len(pairs.parts["val"].sequences) > len(setup.parts["val"].sequences)
    assert pairs.path("val") == setup.path("val")


def test_the_description_names_data_and_weights(video_task: VideoSegmentationProxy) -> None:
    description = video_task.description()
    assert description["data"]["classes"] == list(video_task.setup.dataset.classes)
    assert description["data"]["fingerprint"] == video_task.setup.dataset.fingerprint()
    assert description["data"]["normalisation"] == "imagenet"
    file = video_task.setup.context.folder / description["weights"]["static_file"]
    assert file.is_file()
    assert len(description["weights"]["static_sha256"]) == 64


def test_notes_tell_the_sequences_and_what_the_per_frame_network_has(
    video_task: VideoSegmentationProxy,
) -> None:
    sequences, baseline = video_task.notes()
    assert "16 sequences of 3 frames to train on, 4 to measure on" in sequences
    assert "reward 0." in baseline


def test_a_cache_and_the_static_network_beside_it_belong_together(video_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(video_folder, folder)
    (weights,) = folder.glob("static-*.pt")
    content = torch.load(weights, weights_only=True)
    torch.save(content | {"changed": 1}, weights)
    with pytest.raises(InputError, match=r"must belong together.*Delete frames-train-"):
        tiny_task(folder).prepare()


def test_another_space_is_refused(tmp_path: Path) -> None:
    context = replace(tiny_context(tmp_path), space=FcosDecoder(FcosDecoderRecipe()))
    with pytest.raises(InputError, match=r"needs a space of dynamic cells.*fcos_decoder"):
        VideoSegmentationProxy(tiny_recipe(), context)


def test_any_static_network_will_do(tmp_path: Path) -> None:
    task = VideoSegmentationProxy(tiny_recipe(), tiny_context(tmp_path, decoder="deeplab_v3_plus"))
    task.prepare()
    assert task.static.dec.channels != 64
    result = task.evaluate(tiny_candidate(task))
    assert (result.status, result.reason) == ("completed", None)


@pytest.mark.parametrize("part", ["meta-train", "meta-val"])
def test_a_part_of_void_alone_is_refused_before_anything_is_trained(tmp_path: Path, part: str) -> None:
    folder = write_synthetic_video(tmp_path / "data", videos={"train": 4, "val": 1}, frames=8, size=SIZE)

    def proxy() -> VideoSegmentationProxy:
        return VideoSegmentationProxy(tiny_recipe(), on_folder(tiny_context(tmp_path / "prepared"), folder))

    setup = proxy().setup
    views = setup.parts["train" if part == "meta-train" else "val"]
    # A sequence's first frame is neither trained nor measured.
    for k in set(views.sequences[:, 1:].flatten().tolist()):
        file = setup.dataset.frames[views.frames[k]].annotation
        assert file is not None
        write_label_map(file, np.full(SIZE, 255))
    phases: list[str] = []
    with pytest.raises(InputError, match=f"{part} must show at least one pixel"):
        proxy().prepare(lambda phase, fraction: phases.append(phase))
    assert phases == []


def on_folder(context: TaskContext, folder: Path) -> TaskContext:
    return replace(context, data=context.data.model_copy(update={"path": folder, "format": "camvid"}))


def test_frames_of_another_size_are_one_clear_line(tmp_path: Path) -> None:
    """A window larger than some frames leaves them at their own sizes."""
    folder = tmp_path / "data"
    write_synthetic_video(folder, videos={"train": 3, "val": 1}, frames=8, size=SIZE)
    smaller = write_synthetic_video(tmp_path / "smaller", videos={"train": 1}, frames=8, size=(64, 64))
    for source, target in ((smaller / "train", "train"), (smaller / "trainannot", "trainannot")):
        for file in source.iterdir():
            shutil.copy(file, folder / target / f"small{file.name}")
    stems = sorted(file.stem for file in (folder / "train").iterdir())
    (folder / "train.txt").write_text("\n".join(stems))
    context = on_folder(tiny_context(tmp_path / "prepared"), folder)
    with pytest.raises(InputError, match=r"must have one size.*proxy.crop"):
        VideoSegmentationProxy(tiny_recipe(crop=(96, 96)), context).prepare()
