import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nasperc.data.formats import open_video
from nasperc.data.normalisation import get_normalisation
from nasperc.data.synthetic_video import write_synthetic_video
from nasperc.errors import InputError
from nasperc.evaluation.miou import SegmentationEvaluation
from nasperc.models.backbones.mobilenet_v2 import MobileNetV2
from nasperc.models.decoders.build import build_segmenter
from nasperc.models.video_segmenter import CellOutput, VideoSegmenter
from nasperc.training.segment import FrameByFrame, segment_dataset

TF = get_normalisation("tf")
FRAMES, SIZE = 4, (36, 50)


class Cell(nn.Module):
    """The smallest cell: dec of before and layer 2 of now."""

    def __init__(self, inputs, classes):
        super().__init__()
        channels = {spec.name: spec.channels for spec in inputs}
        self.mix = nn.Conv2d(channels["dec"] + channels["layer2"], channels["dec"], 1)
        self.classifier = nn.Conv2d(channels["dec"], classes, 3, padding=1)

    def forward(self, state, levels):
        dec = self.mix(torch.cat((state.dec, levels[0]), 1))
        return CellOutput(self.classifier(dec), dec)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "video"
    return write_synthetic_video(folder, videos={"val": 2}, frames=FRAMES, size=SIZE)


@pytest.fixture(scope="module")
def dataset(data):
    return open_video(data, "val")


@pytest.fixture(scope="module")
def video(dataset):
    torch.manual_seed(0)
    static = build_segmenter("arch2", MobileNetV2(width_mult=0.1, frozen_bn=False), len(dataset.classes))
    for module in static.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        static(torch.randn(4, 3, 64, 64))
    return VideoSegmenter(static, Cell(static.cell_inputs, len(dataset.classes))).eval()


def by_hand(logits, dataset, indices, positions):
    """The evaluation of logits that a whole sequence gave at once."""
    evaluation = SegmentationEvaluation(len(dataset.classes))
    for one, index, position in zip(logits, indices, positions, strict=True):
        upsampled = F.interpolate(one, SIZE, mode="bilinear", align_corners=False)
        evaluation.add(upsampled[0].argmax(0), dataset[index].semantic, position)
    return evaluation


@torch.no_grad()
def test_whole_runs_carry_the_state_from_their_first_frame_to_their_last(video, dataset):
    calls = []
    found = segment_dataset(video, dataset, TF, on_frame=lambda *done: calls.append(done))
    assert calls == [(k + 1, 8) for k in range(8)]
    expected = torch.zeros_like(found.confusion())
    for run in dataset.runs:
        logits = video([TF.apply(dataset[k].image)[None] for k in run])
        expected += by_hand(logits, dataset, run, range(FRAMES)).confusion()
    assert torch.equal(found.confusion(), expected)
    assert found.positions == (0, 1, 2, 3)


@torch.no_grad()
def test_sequences_start_anew(video, dataset):
    found = segment_dataset(video, dataset, TF, sequence_length=2)
    assert found.positions == (0, 1)
    expected = torch.zeros_like(found.confusion(1))
    for sequence in dataset.sequences(2):
        logits = video([TF.apply(dataset[k].image)[None] for k in sequence])
        expected += by_hand(logits, dataset, sequence, (0, 1)).confusion(1)
    assert torch.equal(found.confusion(1), expected)


@torch.no_grad()
def test_a_per_frame_network_knows_no_other_frame(video, dataset):
    video.static.train()
    found = segment_dataset(video.static, dataset, TF)
    assert not video.static.training
    logits = [video.static(TF.apply(dataset[k].image)[None]).logits for k in range(len(dataset))]
    expected = by_hand(logits, dataset, range(len(dataset)), [0] * len(dataset))
    assert torch.equal(found.confusion(), expected.confusion())


def test_after_a_restart_a_frame_is_the_first(video, dataset):
    frames = FrameByFrame(video, TF)
    one, other = dataset[0].image, dataset[3].image
    first = frames.labels(one)
    assert (first.shape, first.dtype) == (SIZE, torch.int64)
    following = frames.labels(other)
    frames.restart()
    assert torch.equal(frames.labels(one), first)
    frames.restart()
    assert not torch.equal(frames.labels(other), following)


def test_frames_without_annotation_only_leave_their_state(video, dataset, data):
    half = open_video(data, "val")
    half.frames = tuple(
        frame if index % 2 else type(frame)(frame.image, None, frame.size)
        for index, frame in enumerate(half.frames)
    )
    found, whole = segment_dataset(video, half, TF), segment_dataset(video, dataset, TF)
    assert found.positions == (1, 3)
    for position in found.positions:
        assert torch.equal(found.confusion(position), whole.confusion(position))


def test_a_run_of_one_frame_shows_nothing_of_a_cell(video, dataset, data):
    alone = open_video(data, "val")
    alone.frames, alone.runs = alone.frames[:5], (range(4), range(4, 5))
    with pytest.raises(InputError, match="as many consecutive frames, but got a run of 1"):
        segment_dataset(video, alone, TF)
    assert segment_dataset(video.static, alone, TF).positions == (0, 1, 2, 3)
