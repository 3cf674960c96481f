import pytest
import torch
from video_checkpoint import network, searched_cell

from nasperc.evaluation.video_latency import FollowingFrame, measure_video_latency


@pytest.fixture(scope="module")
def video():
    return network(searched_cell(), 3)


def test_the_decoder_runs_on_first_frames_only(video):
    calls = []

    def count(network):
        network.decoder.register_forward_hook(lambda *_: calls.append("decoder"))
        network.backbone.register_forward_hook(lambda *_: calls.append("encoder"))

    count(video.static)
    latency = measure_video_latency(video, (64, 64), runs=2, warmup=1, device=torch.device("cpu"))
    # A first frame that leaves the state; then three first frames and three that follow, in turns.
    assert calls == ["encoder", "decoder"] + ["encoder", "decoder", "encoder"] * 3
    assert latency.first.runs == latency.following.runs == 2
    assert 0 < latency.following.fastest_s <= latency.following.median_s


def test_the_frame_that_follows_is_the_step(video):
    following = FollowingFrame(video, (64, 64))
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected, _ = video.step(type(video.start(image)[1])(following.layer4, following.dec), image)
        assert torch.equal(following(image), expected)


def test_a_per_frame_network_is_measured_once(video):
    latency = measure_video_latency(video.static, (64, 64), runs=1, warmup=0)
    assert latency.first is latency.following
