from __future__ import annotations

import json
from pathlib import Path

import pytest

from nasperc.search.run_caches import CACHES, RunCaches


def taken(folder: Path, sha256: str, before: str | None = None, *, resumed: bool) -> list[str]:
    """What is said of a cache of this hash."""
    said: list[str] = []
    RunCaches(folder, resumed=resumed, say=said.append).take("cache-1.h5", sha256, before)
    return said


def test_another_cache_than_the_first_is_said_at_every_resumption(tmp_path: Path) -> None:
    assert taken(tmp_path, "a" * 64, resumed=False) == []
    assert taken(tmp_path, "a" * 64, resumed=True) == []
    for _ in range(2):
        said = taken(tmp_path, "b" * 64, resumed=True)
        assert len(said) == 1
        assert "cache-1.h5 is another cache than this run began with" in said[0]
        assert "bbbb" in said[0]
        assert "aaaa" in said[0]


def test_a_new_run_begins_with_what_it_finds(tmp_path: Path) -> None:
    (tmp_path / CACHES).write_text(json.dumps({"cache-1.h5": "c" * 64}))
    assert taken(tmp_path, "b" * 64, before="a" * 64, resumed=False) == []
    assert json.loads((tmp_path / CACHES).read_text()) == {"cache-1.h5": "b" * 64}


def test_of_an_older_run_the_replaced_file_says_what_it_began_with(tmp_path: Path) -> None:
    assert taken(tmp_path, "a" * 64, before="a" * 64, resumed=True) == []
    (tmp_path / CACHES).unlink()
    assert len(taken(tmp_path, "b" * 64, before="a" * 64, resumed=True)) == 1
    assert len(taken(tmp_path, "b" * 64, resumed=True)) == 1


@pytest.mark.parametrize("content", ["", "{", "[]", '{"cache-1.h5": 1}'])
def test_a_damaged_record_is_said(tmp_path: Path, content: str) -> None:
    (tmp_path / CACHES).write_text(content)
    said = taken(tmp_path, "a" * 64, resumed=True)
    assert len(said) == 1
    assert "count as this run's first" in said[0]
