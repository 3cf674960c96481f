"""Weights of other programs as named tensors, whatever file they come in."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nasperc.convert.pickled_arrays import load_pickled_arrays
from nasperc.errors import InputError
from nasperc.torch_files import load_torch_file

_CONTAINERS = ("model", "state_dict", "blobs")


class WeightsFile(NamedTuple):
    """``tensors`` by the names that the file gives them; ``author``: what detectron2's files say of theirs."""

    path: Path
    sha256: str
    tensors: dict[str, Tensor]
    author: str | None

    def rows(self, name: str) -> int:
        """Size of the first dimension of a tensor, of a convolution's weights its output channels.

        Raises:
            InputError: it is not there, or empty.
        """
        tensor = self.tensors.get(name)
        if tensor is None or tensor.ndim == 0 or len(tensor) == 0:
            raise InputError(
                "a weights file must have every tensor of the network that it is for",
                value=f"no {name}",
                where=self.path,
                repair="Nothing was written. Check that the file is whole.",
            )
        return len(tensor)


def read_weights(path: Path) -> WeightsFile:
    """Read a PyTorch file, or with the suffix .pkl a pickle of numpy arrays; nothing in it is executed.

    The tensors are at the top, or in a dict under ``model``, ``state_dict`` or ``blobs``.

    Raises:
        InputError: missing, unreadable, cut short, without tensors, or a file that would run code.
    """
    content = load_pickled_arrays(path) if path.suffix == ".pkl" else _torch_file(path)
    author = None
    if isinstance(content, dict):
        author = content.get("__author__")
        content = next((content[key] for key in _CONTAINERS if isinstance(content.get(key), dict)), content)
    tensors = _tensors(content)
    if not tensors:
        raise InputError(
            f"a weights file must hold named tensors, at the top or under {', '.join(_CONTAINERS)}",
            value=type(content).__name__ if not isinstance(content, dict) else "a dict without tensors",
            where=path,
            repair="Give the file of weights itself.",
        )
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return WeightsFile(path, sha256, tensors, author if isinstance(author, str) else None)


def _torch_file(path: Path) -> Any:
    return load_torch_file(
        path,
        rule="a weights file must be a readable PyTorch file of tensors, or a .pkl of numpy arrays",
        repair="Check the path, or download the file again.",
    )


def _tensors(content: Any) -> dict[str, Tensor]:
    found = {}
    for name, value in content.items() if isinstance(content, dict) else ():
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(value)
        if isinstance(name, str) and isinstance(value, Tensor):
            found[name] = value
    return found
