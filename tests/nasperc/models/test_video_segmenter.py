import pytest
import torch
from torch import nn

from nasperc.errors import InputError
from nasperc.models.backbones.mobilenet_v2 import MobileNetV2
from nasperc.models.decoders.build import SEGMENTERS, build_segmenter
from nasperc.models.video_segmenter import (
    CellOutput,
    State,
    VideoSegmenter,
    VideoStart,
    VideoStep,
    initialise_classifier,
    unroll,
)

CLASSES = 3


class Cell(nn.Module):
    """The smallest cell: dec of before and layer 2 of now, and a little of both layers 4."""

    def __init__(self, inputs, classes=CLASSES):
        super().__init__()
        channels = {spec.name: spec.channels for spec in inputs}
        self.mix = nn.Conv2d(channels["dec"] + channels["layer2"], channels["dec"], 1)
        self.classifier = nn.Conv2d(channels["dec"], classes, 3, padding=1)

    def forward(self, state, levels):
        dec = self.mix(torch.cat((state.dec, levels[0]), 1))
        dec = dec + state.layer4.mean() - 2 * levels[2].mean()
        return CellOutput(self.classifier(dec), dec)


def network(name="arch2"):
    torch.manual_seed(0)
    static = build_segmenter(name, MobileNetV2(width_mult=0.25, frozen_bn=False), CLASSES)
    for module in static.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    # One batch's statistics: with made-up ones random features fade to constants, or explode.
    with torch.no_grad():
        static(torch.cat(frames()).float())
    return VideoSegmenter(static, Cell(static.cell_inputs)).double()


def frames(count=3, size=(64, 96), images=2):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(images, 3, *size, generator=generator).double() for _ in range(count)]


@pytest.mark.parametrize("name", sorted(SEGMENTERS))
@pytest.mark.parametrize("size", [(64, 96), (50, 70)])
@torch.no_grad()
def test_all_at_once_is_frame_by_frame(name, size):
    video = network(name).eval()
    given = frames(size=size)
    logits = video(given)
    assert [x.shape for x in logits] == [(2, CLASSES, -(-size[0] // 8), -(-size[1] // 8))] * 3
    first, state = video.start(given[0])
    torch.testing.assert_close(logits[0], first)
    torch.testing.assert_close(first, video.static(given[0]).logits)
    for index in (1, 2):
        step, state = video.step(state, given[index])
        torch.testing.assert_close(logits[index], step)


@torch.no_grad()
def test_the_state_is_layer_4_of_before_and_the_cells_own_dec():
    video = network().eval()
    given = frames()
    static = [video.static(image) for image in given]
    output = video.cell(State(static[0].levels[-1], static[0].dec), static[1].levels)
    last = video.cell(State(static[1].levels[-1], output.dec), static[2].levels)
    torch.testing.assert_close(video(given)[2], last.logits)
    _, state = video.step(video.start(given[0])[1], given[1])
    torch.testing.assert_close(state.layer4, static[1].levels[-1])
    torch.testing.assert_close(state.dec, output.dec)


@torch.no_grad()
def test_the_decoder_runs_on_the_first_frame_only():
    video = network().eval()
    calls = []
    video.static.decoder.register_forward_hook(lambda *_: calls.append("decoder"))
    video.static.backbone.register_forward_hook(lambda *_: calls.append("encoder"))
    _, state = video.start(frames()[0])
    video.step(state, frames()[1])
    assert calls == ["encoder", "decoder", "encoder"]
    calls.clear()
    video(frames(4))
    assert calls == ["encoder", "decoder"]  # the encoder once, on all frames


@torch.no_grad()
def test_cached_outputs_unroll_to_the_same():
    video = network().eval()
    given = frames()
    static = [video.static(image) for image in given]
    state = State(static[0].levels[-1], static[0].dec)
    cached = unroll(video.cell, state, [each.levels for each in static[1:]])
    for one, other in zip(cached, video(given)[1:], strict=True):
        torch.testing.assert_close(one, other)


def test_gradients_go_back_through_time():
    """The last frame's loss reaches the decoder, whose only output is the first frame's."""
    video = network()
    video(frames(3))[2].square().mean().backward()
    assert video.cell.mix.weight.grad.any()
    assert video.static.decoder.project[0].weight.grad.any()
    assert next(video.static.backbone.parameters()).grad.any()


def test_a_single_frame_is_the_static_network():
    video = network().eval()
    (logits,) = video(frames(1))
    torch.testing.assert_close(logits, video.static(frames(1)[0]).logits)


def test_no_frame_is_refused():
    with pytest.raises(InputError, match="at least one frame"):
        network()([])


def test_the_classifier_starts_as_the_static_networks():
    video = network()
    initialise_classifier(video.cell, video.static.classifier)
    assert torch.equal(video.cell.classifier.weight, video.static.classifier.weight)
    assert torch.equal(video.cell.classifier.bias, video.static.classifier.bias)
    # A copy: the cell's is trained, and the static network's serves other candidates.
    video.cell.classifier.weight.data += 1
    assert not torch.equal(video.cell.classifier.weight, video.static.classifier.weight)


def test_a_classifier_of_other_classes_is_refused():
    video = network()
    with pytest.raises(InputError, match="one shape"):
        initialise_classifier(Cell(video.static.cell_inputs, classes=7), video.static.classifier)


def test_the_step_is_exported_as_a_loop():
    video = network().eval()
    first, second, third = frames(3, images=1)
    with torch.no_grad():
        expected = video([first, second, third])
        logits, *state = VideoStart(video)(first)
        torch.testing.assert_close(logits, expected[0])
        step = torch.export.export(VideoStep(video), (second, *state)).module()
        for image, wanted in ((second, expected[1]), (third, expected[2])):
            logits, *state = step(image, *state)
            torch.testing.assert_close(logits, wanted)
