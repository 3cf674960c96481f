"""Round trip, errors and concurrency of the feature cache."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

from feature_cache.format import ALIGNMENT, TensorSpec
from feature_cache.reader import CacheReader
from feature_cache.verify import verify
from feature_cache.writer import CacheWriter
from nasperc.errors import InputError

SPECS = {
    "C3": TensorSpec((4, 5, 6), "float16"),
    "labels": TensorSpec((7,), "int16"),
    "count": TensorSpec((), "int64"),
    "small": TensorSpec((3, 3, 2), "uint8", quantised=True),
}
CONTENTS = {"backbone": "mobilenet_v2", "views": 2}
COUNT = 5


def records() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "C3": torch.randn(COUNT, 4, 5, 6, generator=generator),
        "labels": torch.randint(-1, 20, (COUNT, 7), generator=generator),
        "count": torch.arange(COUNT),
        "small": torch.randn(COUNT, 3, 3, 2, generator=generator) * torch.tensor([1.0, 100.0]),
    }


def write(path: Path, contents: dict[str, object] = CONTENTS) -> dict[str, Tensor]:
    data = records()
    with CacheWriter(path, SPECS, COUNT, contents, {"note": "kept"}) as writer:
        for part in ([0, 1], [2], [3, 4]):
            writer.append({name: tensor[part] for name, tensor in data.items()})
    return data


def test_what_is_written_is_read(tmp_path: Path) -> None:
    data = write(tmp_path / "cache.h5")
    reader = CacheReader(tmp_path / "cache.h5", expect=CONTENTS)
    indices = torch.tensor([4, 0, 4])
    batch = reader.batch(reader.names, indices)
    assert set(batch) == set(SPECS)
    assert torch.equal(batch["C3"], data["C3"][indices].half())
    assert torch.equal(batch["labels"], data["labels"][indices].short())
    assert torch.equal(batch["count"], indices)
    assert len(reader) == COUNT
    assert reader.header.attributes == {"note": "kept"}


def test_quantised_values_are_within_half_a_step_of_their_channel(tmp_path: Path) -> None:
    data = write(tmp_path / "cache.h5")["small"]
    read = CacheReader(tmp_path / "cache.h5").batch(["small"], torch.arange(COUNT))["small"]
    for record in range(COUNT):
        for channel in range(2):
            truth = data[record, ..., channel]
            step = (truth.max() - truth.min()) / 255
            assert (read[record, ..., channel] - truth).abs().max() <= 0.501 * step


def test_a_constant_channel_survives_quantisation(tmp_path: Path) -> None:
    path, spec = tmp_path / "cache.h5", {"x": TensorSpec((2, 2, 1), "uint8", quantised=True)}
    with CacheWriter(path, spec, 1, {}) as writer:
        writer.append({"x": torch.full((1, 2, 2, 1), -3.5)})
    assert torch.equal(CacheReader(path).batch(["x"], torch.tensor([0]))["x"], torch.full((1, 2, 2, 1), -3.5))


def test_any_hdf5_tool_reads_it_and_datasets_start_on_pages(tmp_path: Path) -> None:
    data = write(tmp_path / "cache.h5")
    with h5py.File(tmp_path / "cache.h5") as file:
        assert np.array_equal(file["C3"][:], data["C3"].half().numpy())
        for dataset in file.values():
            assert dataset.chunks is None
            assert dataset.compression is None
            assert dataset.id.get_offset() % ALIGNMENT == 0


def test_a_pickled_reader_reads_the_same(tmp_path: Path) -> None:
    write(tmp_path / "cache.h5")
    reader = CacheReader(tmp_path / "cache.h5", expect=CONTENTS)
    index = torch.tensor([2])
    before = reader.batch(["C3"], index)["C3"]
    assert torch.equal(pickle.loads(pickle.dumps(reader)).batch(["C3"], index)["C3"], before)


def test_verify_accepts_a_whole_file_and_names_its_tensors(tmp_path: Path) -> None:
    write(tmp_path / "cache.h5")
    report = verify(tmp_path / "cache.h5")
    assert report.header.records == COUNT
    assert report.tensors["C3"] == ((4, 5, 6), "float16")
    assert "whole" in str(report)


def test_verify_finds_one_changed_byte_in_any_dataset(tmp_path: Path) -> None:
    path = tmp_path / "cache.h5"
    write(path)
    for name, offset in CacheReader(path).header.offsets.items():
        damaged = tmp_path / f"{name}.h5"
        shutil.copy(path, damaged)
        with damaged.open("r+b") as file:
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ 1]))
        with pytest.raises(InputError, match="SHA-256"):
            verify(damaged)


def test_verify_finds_a_fingerprint_that_is_not_that_of_the_contents(tmp_path: Path) -> None:
    write(tmp_path / "cache.h5")
    with h5py.File(tmp_path / "cache.h5", "r+") as file:
        file.attrs.modify("fingerprint", "0" * 64)
    with pytest.raises(InputError, match="fingerprint of a cache must be that of its contents"):
        verify(tmp_path / "cache.h5")


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.99])
def test_a_cache_cut_short_is_one_clear_line(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "cache.h5"
    write(path)
    os.truncate(path, int(path.stat().st_size * keep))
    with pytest.raises(InputError, match=r"cache must.*cache\.h5"):
        CacheReader(path)


def test_a_cache_of_another_backbone_names_both(tmp_path: Path) -> None:
    write(tmp_path / "cache.h5")
    with pytest.raises(InputError, match=r'backbone = "resnet50".*"mobilenet_v2"'):
        CacheReader(tmp_path / "cache.h5", expect={"backbone": "resnet50", "views": 2})


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = [1]
    with pytest.raises(InputError, match="format"):
        CacheReader(tmp_path / "other.h5")
    with pytest.raises(InputError, match="exist"):
        CacheReader(tmp_path / "none.h5")


def test_too_little_space_is_said_before_the_first_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with (
        pytest.raises(InputError, match=r"GiB must fit.*0\.00 GiB free"),
        CacheWriter(tmp_path / "cache.h5", SPECS, COUNT, CONTENTS),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", ["posix_fallocate", "pwrite"])
def test_a_disk_that_fills_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write(tmp_path / "before.h5")
    monkeypatch.setattr(os, call, full)
    with pytest.raises(InputError, match="must fit on the disk"):
        write(tmp_path / "cache.h5")
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        ".before.h5.header",
        ".before.h5.whole",
        "before.h5",
    ]


def write_and_interrupt(path: Path) -> None:
    with CacheWriter(path, SPECS, COUNT, CONTENTS) as writer:
        writer.append({name: tensor[:2] for name, tensor in records().items()})
        raise KeyboardInterrupt


def test_an_interrupted_writer_leaves_the_old_file_alone(tmp_path: Path) -> None:
    write(tmp_path / "cache.h5")
    before = (tmp_path / "cache.h5").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        write_and_interrupt(tmp_path / "cache.h5")
    assert (tmp_path / "cache.h5").read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        ".cache.h5.header",
        ".cache.h5.whole",
        "cache.h5",
    ]


def test_too_few_or_too_many_records_are_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got 0"), CacheWriter(tmp_path / "a.h5", SPECS, COUNT, CONTENTS):
        pass
    with (
        pytest.raises(ValueError, match="this makes 5"),
        CacheWriter(tmp_path / "a.h5", SPECS, 2, CONTENTS) as writer,
    ):
        writer.append(records())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "value"), [("C3", float("nan")), ("C3", float("-inf")), ("C3", 1e5)])
def test_numbers_that_are_none_are_not_cached(tmp_path: Path, name: str, value: float) -> None:
    """1e5 is a number, but no float16."""
    broken = records()
    broken[name][1].view(-1)[2] = value
    with (
        pytest.raises(InputError, match=rf"finite numbers of float16.*{name} of cache\.h5"),
        CacheWriter(tmp_path / "cache.h5", SPECS, COUNT, CONTENTS) as writer,
    ):
        writer.append(broken)
    assert list(tmp_path.iterdir()) == []
