"""A cache that this run did not write is read by a process of its own, which may die of it."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from feature_cache import opening
from feature_cache.format import TensorSpec
from feature_cache.opening import KEY, read_header
from feature_cache.reader import CacheReader
from feature_cache.verify import verify
from feature_cache.writer import CacheWriter
from nasperc.errors import InputError

SPECS = {"C3": TensorSpec((2, 2, 4), "float16"), "small": TensorSpec((3, 2), "uint8", quantised=True)}
CONTENTS = {"backbone": "mobilenet_v2"}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Written by another run: nobody here has signed it."""
    import torch

    path = tmp_path / "cache.h5"
    with CacheWriter(path, SPECS, 3, CONTENTS) as writer:
        writer.append({"C3": torch.ones(3, 2, 2, 4), "small": torch.rand(3, 3, 2)})
    (tmp_path / ".cache.h5.header").unlink()
    return path


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that were started."""
    started: list[list[str]] = []
    run = subprocess.run

    def counted(command: list[str], **options: object) -> object:
        started.append(command)
        return run(command, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "run", counted)
    return started


def probe_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str) -> None:
    """Put ``code`` where the HDF5 library would be called."""
    program = tmp_path / "instead.py"
    program.write_text(code)
    monkeypatch.setattr(opening, "_PROBE", program)


def test_the_header_is_what_was_written_and_is_probed_once_a_run(
    cache: Path, probes: list[list[str]]
) -> None:
    header = read_header(cache)
    assert header == read_header(cache)
    assert (header.records, header.contents, header.quantised) == (3, CONTENTS, {"small"})
    with h5py.File(cache) as file:
        assert {name: file[name].id.get_offset() for name in file} == header.offsets
        assert {name: (file[name].shape, file[name].dtype) for name in file} == header.layouts
    assert len(probes) == 1


def test_a_worker_takes_the_drivers_word_and_another_run_does_not(
    cache: Path, probes: list[list[str]]
) -> None:
    read_header(cache)
    code = (
        "import subprocess, sys; from pathlib import Path; from feature_cache.opening import read_header\n"
        "def never(*_, **__): raise SystemExit('probed')\n"
        "subprocess.run = never; read_header(Path(sys.argv[1])); sys.exit('h5py' in sys.modules)"
    )
    for key, expected in ((os.environ[KEY], 0), ("another run's", 1)):
        environment = {**os.environ, KEY: key}
        worker = [sys.executable, "-c", code, str(cache)]
        assert subprocess.run(worker, env=environment, stderr=subprocess.DEVNULL).returncode == expected


def test_what_this_process_wrote_needs_no_probe(tmp_path: Path, probes: list[list[str]]) -> None:
    with CacheWriter(tmp_path / "c.h5", {"x": TensorSpec((), "int64")}, 1, {}) as writer:
        import torch

        writer.append({"x": torch.tensor([7])})
    assert CacheReader(tmp_path / "c.h5").tensor("x").tolist() == [7]
    assert probes == []


def test_a_forged_or_outdated_word_is_not_taken(cache: Path, probes: list[list[str]]) -> None:
    header = read_header(cache)
    record = cache.with_name(".cache.h5.header")
    signature, text = record.read_text().split("\n")
    forged = json.loads(text)
    forged["header"]["datasets"]["C3"]["offset"] = 0
    for content in (f"{signature}\n{json.dumps(forged)}", text, "\xff\x00"):
        record.write_text(content, encoding="latin1")
        assert read_header(cache) == header
    os.utime(cache, ns=(1, 1))
    assert read_header(cache) == header
    assert len(probes) == 5


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("import os; os.abort()", "SIGABRT"),
        ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
        ("while True: pass", "nothing after 2 s"),
        ("import sys; sys.exit(3)", "exit code 3"),
        ("print('nonsense')", "no answer"),
        ("print('[' * 100_000)", "no answer"),
    ],
)
def test_a_child_that_dies_is_an_input_error(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, found: str
) -> None:
    probe_with(monkeypatch, tmp_path, code)
    monkeypatch.setattr(opening, "SECONDS", 2.0)
    with pytest.raises(InputError, match=rf"HDF5 library must be able to read a cache, but got .*{found}"):
        CacheReader(cache)


def test_memory_and_output_of_the_child_are_limited(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = f"import sys; sys.path.insert(0, {str(opening._PROBE.parent)!r}); from probe import _limit; _limit()\n"
    for code in ("print('{\"a\": ' + '1' * (3 << 30))", "while True: print('x' * 1000)"):
        probe_with(monkeypatch, tmp_path, limited + code)
        with pytest.raises(InputError, match=r"no answer|SIGXFSZ"):
            read_header(cache)


def damage(content: bytes, seed: int) -> bytes:
    """Bytes of the metadata flipped, overwritten by what often overflows, or the file cut."""
    draw = random.Random(seed)
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 8, 64))):
        place = draw.randrange(min(len(data), draw.choice((96, 800, 4096, len(data)))))
        if draw.random() < 0.5:
            data[place] ^= 1 << draw.randrange(8)
        else:
            data[place : place + 4] = draw.choice((b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", bytes(4)))
    return bytes(data[: draw.randrange(len(data))] if draw.random() < 0.15 else data)


@pytest.mark.parametrize("seed", range(6))
def test_a_damaged_cache_is_read_or_refused(cache: Path, seed: int) -> None:
    """The long version of this is ``make fuzz``."""
    cache.write_bytes(damage(cache.read_bytes(), seed))
    try:
        reader = CacheReader(cache)
        for name in reader.header.layouts:
            assert reader.tensor(name).shape == reader.header.layouts[name].shape
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017


def test_data_may_not_lie_in_another_file(cache: Path, tmp_path: Path) -> None:
    shutil.copy(cache, tmp_path / "other.h5")
    for link in (h5py.ExternalLink("other.h5", "/C3"), h5py.SoftLink("/small")):
        with h5py.File(cache, "r+") as file:
            del file["C3"]
            file["C3"] = link
        with pytest.raises(InputError, match="C3 is no dataset of this file"):
            read_header(cache)
    with h5py.File(cache, "r+") as file:
        del file["C3"]
        file.create_dataset("C3", (3, 4), "f4", external=[(tmp_path / "secret", 0, 48)]).attrs["encoding"] = (
            "plain"
        )
    with pytest.raises(InputError, match="C3 is not contiguous"):
        verify(cache)


def test_only_numbers_of_every_record_are_data(cache: Path) -> None:
    kinds = {"text": h5py.string_dtype(), "record": [("a", "f4")], "complex": "c8", "date": "S8"}
    for kind in kinds.values():
        with h5py.File(cache, "r+") as file:
            del file["C3"]
            file.create_dataset("C3", (3,), np.dtype(kind)).attrs["encoding"] = "plain"
        with pytest.raises(InputError, match="C3 is"):
            read_header(cache)
    with h5py.File(cache, "r+") as file:
        del file["C3"]
        file.create_dataset("C3", (2, 4), "f4").attrs["encoding"] = "plain"
        file["C3"][:] = 1
    with pytest.raises(InputError, match=r"shape \(2, 4\) in a cache of 3 records"):
        read_header(cache)


def test_a_named_pipe_is_no_cache(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.h5")
    with pytest.raises(InputError, match="exist"):
        verify(tmp_path / "pipe.h5")
