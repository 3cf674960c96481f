"""How far two measurements order the same things alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def kendall_tau(one: Sequence[float], other: Sequence[float]) -> float:
    """Kendall's tau-b of two measurements of the same N things: 1 = the same order, -1 = the reverse.

    Pairs that tie in one of the measurements count for neither order. NaN where a measurement is constant.

    Raises:
        ValueError: not as many of the one as of the other, or fewer than two.
    """
    if len(one) != len(other) or len(one) < 2:
        raise ValueError(
            f"two measurements of at least two things are needed, got {len(one)} and {len(other)}"
        )
    a, b = (np.sign(np.subtract.outer(values, values)) for values in (one, other))
    norm = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / norm) if norm else float("nan")
