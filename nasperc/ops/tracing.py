"""When an operation has to leave its fast path."""

from __future__ import annotations

import torch


def is_traced() -> bool:
    """Whether an exporter or a compiler follows: it cannot see into autograd functions, and its sizes are symbols."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()
