from __future__ import annotations

import gc
import weakref

import pytest
import torch

from proxy_tasks.failure import TransientError, describe, failed, release_memory


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        torch.AcceleratorError("CUDA error: unspecified launch failure"),
        OSError(5, "Input/output error"),
        TransientError("no result within the time limit"),
    ],
)
def test_what_may_be_the_machine(error: Exception) -> None:
    assert failed(error).transient


@pytest.mark.parametrize(
    "error",
    [
        ValueError("out of memory of a fish"),
        RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"),
        ArithmeticError("diverged at step 3: box nan"),
    ],
)
def test_what_is_the_candidate(error: Exception) -> None:
    assert not failed(error).transient


def test_memory_that_torch_does_not_get_on_this_machine() -> None:
    with pytest.raises(RuntimeError) as refused:
        torch.empty(2**60, dtype=torch.uint8)
    result = failed(refused.value)
    assert result.transient
    assert result.reason is not None
    assert result.reason.startswith("out of memory, RuntimeError")


def test_a_reason_is_one_line_with_its_place() -> None:
    reason = describe(raised(ValueError("one\ntwo" + "x" * 1000)))
    assert reason.startswith("ValueError: one twoxxx")
    assert "(test_failure.py:" in reason
    assert len(reason) <= 300
    assert "\n" not in reason


def test_tensors_of_the_frames_are_given_back() -> None:
    """Even those that a circle holds."""
    kept: list[weakref.ref[torch.Tensor]] = []

    def train() -> None:
        tensor = torch.ones(1000)
        circle: list[object] = [tensor]
        circle.append(circle)
        kept.append(weakref.ref(tensor))
        raise MemoryError

    gc.disable()
    try:
        try:
            train()
        except MemoryError as error:
            failed(error)
        release_memory()
        assert kept[0]() is None
    finally:
        gc.enable()
