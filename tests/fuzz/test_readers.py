"""A few inputs for every reader at every test run; ``make fuzz`` is the long version."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from targets import TARGETS

from nasperc.errors import InputError

# Each input of a cache starts a process.
FEW, MANY = 4, 30


@pytest.mark.parametrize("name", TARGETS)
def test_valid_documents_are_read(tmp_path: Path, name: str) -> None:
    read = TARGETS[name].open(tmp_path)
    for seed in TARGETS[name].seeds()[:1]:
        try:
            read(seed)
        except InputError as error:
            # These have no weights in them; everything before them was right.
            assert name in ("checkpoint", "weights to convert"), error  # noqa: PT017
            assert "every tensor" in str(error) or "fit the network" in str(error) or "ResNet" in str(error)  # noqa: PT017


@pytest.mark.parametrize("name", TARGETS)
def test_bad_documents_are_read_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    target = TARGETS[name]
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "inside"
    folder.mkdir()
    read, seeds = target.open(folder), target.seeds()

    @settings(
        max_examples=FEW if name == "feature cache" else MANY,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(st.integers(0, 2**32 - 1))
    def read_or_refuse(seed: int) -> None:
        draw = Random(seed)
        data = draw.choice(seeds)
        for _ in range(draw.choice((1, 1, 2, 4))):
            data = target.mutate(data, draw)
        try:
            read(data)
        except InputError as error:
            assert str(error).isprintable()  # noqa: PT017

    read_or_refuse()
    assert [file.name for file in tmp_path.iterdir()] == ["inside"]
