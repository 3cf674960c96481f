"""The limit itself, with real allocations."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest
import torch

from nasperc.search import memory_limit as module
from nasperc.search.memory_limit import memory_limit, room_below
from proxy_tasks.failure import is_out_of_memory

GIB = 2**30


def used_gib() -> float:
    return -room_below(0) / GIB


ALLOCATIONS = """
import resource
import torch
from nasperc.search.memory_limit import memory_limit, room_below
from proxy_tasks.failure import is_out_of_memory

GIB = 2**30
before = resource.getrlimit(resource.RLIMIT_DATA)
with memory_limit(-room_below(0) / GIB + 0.25):
    torch.ones(int(0.2 * GIB / 4))
    try:
        torch.ones(int(0.3 * GIB / 4))
    except RuntimeError as error:
        print("torch refused", is_out_of_memory(error))
    try:
        bytearray(int(0.3 * GIB))
    except MemoryError:
        print("python refused")
    # The process goes on: what was refused left nothing behind.
    torch.ones(int(0.2 * GIB / 4))
print("limit given back", resource.getrlimit(resource.RLIMIT_DATA) == before)
torch.ones(int(0.3 * GIB / 4))
"""


def test_what_goes_beyond_it_is_refused_and_what_stays_below_is_not() -> None:
    # A process of its own: this one may hold freed memory of other tests, and take that without asking the system.
    ended = subprocess.run([sys.executable, "-c", ALLOCATIONS], capture_output=True, text=True, check=False)
    assert ended.stdout.splitlines() == ["torch refused True", "python refused", "limit given back True"]
    assert ended.returncode == 0, ended.stderr


def test_many_small_allocations_reach_it_too() -> None:
    held: list[torch.Tensor] = []

    def take() -> None:
        while True:
            held.append(torch.ones(2**18))

    with memory_limit(used_gib() + 0.05), pytest.raises(RuntimeError) as error:
        take()
    # At least what was left, and what the process had of its own already and did not use.
    assert len(held) > 30
    assert is_out_of_memory(error.value)


def test_without_a_limit_nothing_is_set() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with memory_limit(None):
        assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_a_process_that_is_above_it_already_is_out_of_memory() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with pytest.raises(MemoryError, match="before the candidate begins"), memory_limit(used_gib() / 2):
        pass
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_a_limit_that_the_process_has_already_stays_below(monkeypatch: pytest.MonkeyPatch) -> None:
    low = module._status()["VmData"] + GIB
    before = resource.getrlimit(resource.RLIMIT_DATA)
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (low, before[1]))
        with memory_limit(64.0):
            assert resource.getrlimit(resource.RLIMIT_DATA)[0] == low
        assert resource.getrlimit(resource.RLIMIT_DATA)[0] == low
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
