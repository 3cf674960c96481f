"""What an exception says of a candidate: its reason in a line, and whether the machine may be to blame."""

from __future__ import annotations

import gc
import re
import traceback
from pathlib import Path

import torch

from controllers.base import Result

LONGEST_REASON = 300
# torch tells most of these by a bare RuntimeError.
_OUT_OF_MEMORY = re.compile(
    r"out of memory|can't allocate memory|cannot allocate memory|unable to allocate|bad_alloc|_ALLOC_FAILED",
    re.IGNORECASE,
)
_DEVICE = re.compile(r"CUDA error|CUDA driver error|cuDNN error|CUDNN_STATUS|CUBLAS_STATUS|NVRTC|ECC error")


class TransientError(RuntimeError):
    """Raised where the machine may be to blame, so that another try may do better."""


def failed(error: BaseException) -> Result:
    """The result of a candidate that raised ``error``."""
    return Result("failed", reason=describe(error), transient=is_transient(error))


def describe(error: BaseException) -> str:
    """An exception in one line of at most 300 characters, with the place that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    kind = "out of memory, " if is_out_of_memory(error) else ""
    text = f"{kind}{type(error).__name__}: {' '.join(str(error).split())}"
    return text[: LONGEST_REASON - len(place)] + place


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was refused, by the system, a limit or the GPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError | OSError) and _OUT_OF_MEMORY.search(str(error)) is not None


def is_transient(error: BaseException) -> bool:
    """Whether the machine may be to blame: out of memory, its device, a file that could not be read."""
    if isinstance(error, TransientError | torch.AcceleratorError | OSError) or is_out_of_memory(error):
        return True
    return isinstance(error, RuntimeError) and _DEVICE.search(str(error)) is not None


def release_memory() -> None:
    """Give back what a failed candidate held. Call it when nothing refers to its exception any more: the frames
    of the traceback hold its tensors."""
    gc.collect()
    if torch.cuda.is_initialized() and device_works():
        torch.cuda.empty_cache()


def device_works() -> bool:
    """Whether this process can go on using its CUDA device: an error of a kernel stays in its process for good."""
    if not torch.cuda.is_initialized():
        return True
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True
