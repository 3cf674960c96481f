from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nasperc.convert.weights_file import read_weights
from nasperc.errors import InputError


@pytest.mark.parametrize("suffix", [".pth", ".pkl"])
@pytest.mark.parametrize("container", [None, "model", "state_dict", "blobs"])
def test_tensors_are_found_wherever_they_are(tmp_path: Path, suffix: str, container: str | None) -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    named: Any = {"a.weight": values if suffix == ".pkl" else torch.tensor(values), "epoch": 3}
    content = {container: named, "__author__": "MSRA"} if container else {**named, "__author__": "MSRA"}
    path = tmp_path / f"w{suffix}"
    path.write_bytes(pickle.dumps(content, 2)) if suffix == ".pkl" else torch.save(content, path)
    found = read_weights(path)
    assert list(found.tensors) == ["a.weight"]
    assert torch.equal(found.tensors["a.weight"], torch.tensor(values))
    assert found.author == "MSRA"
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


class Payload:
    """A class that a pickle could name to run code when it is loaded."""


@pytest.mark.parametrize("suffix", [".pth", ".pkl"])
def test_unreadable_files_are_refused_in_one_line(tmp_path: Path, suffix: str) -> None:
    files: dict[str, bytes] = {"empty": b"", "text": b"no weights"}
    torch.save({"a": torch.zeros(1000)}, tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes() if suffix == ".pth" else pickle.dumps({"a": np.zeros(1000)})
    files["cut"] = whole[: len(whole) // 2]
    torch.save({"a": Payload()}, tmp_path / "hostile")
    files["hostile"] = (tmp_path / "hostile").read_bytes() if suffix == ".pth" else pickle.dumps(Payload())
    for name, data in files.items():
        (tmp_path / f"{name}{suffix}").write_bytes(data)
    for name in (*files, "absent"):
        with pytest.raises(InputError) as error:
            read_weights(tmp_path / f"{name}{suffix}")
        assert "\n" not in str(error.value)
        assert error.value.where == str(tmp_path / f"{name}{suffix}")


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"model": {}}, torch.zeros(2)])
def test_files_without_named_tensors_are_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(InputError, match="named tensors"):
        read_weights(tmp_path / "w.pth")
