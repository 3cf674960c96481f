"""Figures that are compared are measured alike: on one thread, in turns, with the load looked at."""

import time

import pytest
import torch
from torch import nn

from nasperc.evaluation.latency import Latency, device_name, doubt, measure_latencies, measure_latency

CPU = torch.device("cpu")


class Noted(nn.Module):
    """Writes its name and the number of threads that it runs on."""

    def __init__(self, name, calls, seconds=0.0):
        super().__init__()
        self.layer, self.name, self.calls, self.seconds = nn.Conv2d(3, 4, 3), name, calls, seconds

    def __deepcopy__(self, memo):
        return Noted(self.name, self.calls, self.seconds)

    def forward(self, images):
        self.calls.append((self.name, torch.get_num_threads()))
        time.sleep(self.seconds)
        return self.layer(images)


def test_one_thread_whatever_the_process_has():
    calls = []
    torch.set_num_threads(2)
    try:
        latency = measure_latency(Noted("a", calls), (16, 16), device=CPU, runs=2, warmup=1)
        assert torch.get_num_threads() == 2
        assert latency.device == device_name(CPU) == "cpu, 1 threads"
    finally:
        torch.set_num_threads(1)
    assert calls == [("a", 1)] * 3
    assert latency.threads == 1
    assert 0 < latency.fastest_s <= latency.median_s <= latency.slowest_s


def test_runs_take_turns_and_are_told():
    calls, told = [], []
    models = [Noted(name, calls) for name in "abc"]
    found = measure_latencies(models, (16, 16), device=CPU, runs=2, warmup=1, on_run=told.append)
    assert [name for name, _ in calls] == list("abcabcabc")
    assert len(found) == 3
    assert all(latency.runs == 2 for latency in found)
    assert told == pytest.approx([(n + 1) / 9 for n in range(9)])


def test_waiting_is_not_counted_but_said():
    """As on a machine whose cores others use: the thread waits, and computes less than time passes."""
    latency = measure_latency(Noted("a", [], seconds=0.05), (16, 16), device=CPU, runs=2, warmup=1)
    assert latency.core_share < 0.5
    assert latency.median_s < 0.05
    assert latency.doubt.startswith("measured on a busy machine (")
    assert latency.doubt.endswith(" % of a core)")


def test_what_can_be_trusted_as_far_as_is_known():
    assert doubt(0.97) is None
    assert doubt(None) is None
    assert doubt(0.453) == "measured on a busy machine (45 % of a core)"
    # On a GPU, and from a file that does not say.
    assert Latency(0.1, 0.1, 0.1, 5, "cuda").doubt is None


def test_models_are_left_alone_or_run_themselves():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    measure_latencies([model], (16, 16), device=CPU, runs=1, warmup=0)
    assert model.training
    measure_latencies([model], (16, 16), device=CPU, runs=1, warmup=0, copies=False)
    assert not model.training
