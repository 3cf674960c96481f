"""Giving each parameter of a network its tensor from a file, and accounting for every key on both sides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nasperc.errors import InputError

_COUNTER = "num_batches_tracked"
_STATISTICS = {"running_mean": 0.0, "running_var": 1.0}


@dataclass(frozen=True)
class KeyReport:
    """The file's keys by what became of them.

    ``used``; ``filled``: running statistics that the file does not have, taken as 0 and 1; ``missing``; ``misfits``:
    present with another shape (with both shapes); ``left_over``: the file's other tensors.
    """

    used: tuple[str, ...]
    filled: tuple[str, ...]
    missing: tuple[str, ...]
    misfits: tuple[str, ...]
    left_over: tuple[str, ...]

    def require_complete(self, path: Path) -> None:
        """Check that the network can be made.

        Raises:
            InputError: a key is missing or has another shape.
        """
        for found, problem in ((self.missing, "missing"), (self.misfits, "of another shape")):
            if found:
                raise InputError(
                    "a weights file must have every tensor of the network that it is for",
                    value=f"{len(found)} {problem}: {found[0]}",
                    where=path,
                    repair="Nothing was written. Check that the file is whole and of a kind that convert knows.",
                )


def match(
    tensors: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    names: Callable[[str], tuple[str, ...]],
    *,
    fill_statistics: bool = False,
) -> tuple[dict[str, Tensor], KeyReport]:
    """State dict of the network, as far as the file goes, and what became of the keys.

    Args:
        tensors: of the file. BatchNorm's counters are no weights and never reported; ours begin at 0.
        wanted: state dict of the network; only shapes and types count.
        names: the file's names for one of ours; several tensors are concatenated.
        fill_statistics: missing running means are 0 and variances 1 (files that folded them into scale and shift).
    """
    state: dict[str, Tensor] = {}
    used: list[str] = []
    filled: list[str] = []
    missing: list[str] = []
    misfits: list[str] = []
    for ours, parameter in wanted.items():
        if ours.endswith(_COUNTER):
            state[ours] = torch.zeros(parameter.shape, dtype=parameter.dtype)
            continue
        theirs = names(ours)
        absent = [name for name in theirs if name not in tensors]
        statistic = _STATISTICS.get(ours.rpartition(".")[2])
        if absent and fill_statistics and statistic is not None:
            filled += absent
            state[ours] = torch.full(parameter.shape, statistic)
            continue
        missing += absent
        if absent:
            continue
        parts = [tensors[name] for name in theirs]
        value = parts[0] if len(parts) == 1 else torch.cat([part.reshape(-1) for part in parts])
        if value.shape == parameter.shape:
            used += theirs
            state[ours] = value.detach().to(parameter.dtype).clone(memory_format=torch.contiguous_format)
        else:
            misfits.append(f"{theirs[0]} {tuple(value.shape)} instead of {tuple(parameter.shape)}")
    known = {name for ours in wanted for name in names(ours)}
    left_over = [name for name in tensors if name not in known and not name.endswith(_COUNTER)]
    return state, KeyReport(*map(tuple, (used, filled, missing, misfits, left_over)))
