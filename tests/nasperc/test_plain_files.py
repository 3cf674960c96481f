from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from nasperc import plain_files
from nasperc.plain_files import parse_json, read_json
from nasperc.plain_yaml import parse_yaml

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXT,
)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=12)


@settings(max_examples=100, deadline=None)
@given(VALUES)
def test_plain_values_come_back(value: object) -> None:
    assert parse_json(json.dumps(value).encode()) == value


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.sampled_from(["a", "b", "c d"]), VALUES))
def test_plain_values_come_back_from_yaml(value: object) -> None:
    text = yaml.safe_dump(value)
    assert parse_yaml(text) == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b'{"a": NaN}', "NaN"),
        (b'[-Infinity]', "Infinity"),
        (b'{"a": [1e999]}', "inf where a finite"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "'c' twice"),
        (b"9" * 30, "bits"),
        (b"9" * 5000, "4300 digits"),
        (b"[" * 100_000, "nested"),
        (b"[" * 80 + b"]" * 80, "more than 64 deep"),
        (b'"\xff"', "utf-8"),
        (b'"\\ud800"', "character that is none"),
        (b'{"a\\u0000": 1}', "character that is none"),
        (b'[1', "delimiter"),
        (b"", "Expecting value"),
    ],
)  # fmt: skip
def test_what_breaks_programs_later_is_refused(text: bytes, found: str) -> None:
    with pytest.raises(ValueError, match=found):
        parse_json(text)


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 40))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (LAUGHS, "more than 1000000 values"),
        (MERGES, "merge keys"),
        ("a: &a {? !!merge x : *a}", "merge keys|recursive"),
        ("a: &a [*a, *a]", "nested|values"),
        ("a: &a {b: *a}", "nested"),
        ("seed: 1\nseed: 2", "'seed' twice"),
        ("2001-02-31", "day"),
        ("2001-02-03", "type date"),
        ("a: !!python/object/apply:os.system [id]", "python/object"),
        ("a: !!binary aGk=", "type bytes"),
        ("!!set {a}", "type set"),
        ("a: 0x" + "f" * 6000, "24000 bits"),
        ("a: " + "9" * 5000, "4300 digits"),
        ("!!int x", "invalid literal"),
        ("!!int ''", "index"),
        ("!!bool x", "x"),
        ("!!timestamp x", "groupdict"),
        ("1: 2", "key of type int"),
        ("[" * 5000, "nested|expected"),
        ("a: \x07", "special characters"),
        ("x" * (2 << 20), "characters"),
        ("a: 'b", "quoted"),
    ],
)
def test_yaml_is_plain_and_small(text: str, found: str) -> None:
    started = time.process_time()
    with pytest.raises(ValueError, match=found):
        parse_yaml(text)
    assert time.process_time() - started < 10


def test_aliases_are_read() -> None:
    assert parse_yaml("a: &x {n: .inf}\nb: *x") == {"a": {"n": float("inf")}, "b": {"n": float("inf")}}


def test_a_file_is_read_up_to_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json").write_text('{"a": 1}')
    assert read_json(tmp_path / "a.json") == {"a": 1}
    with pytest.raises(ValueError, match="more than 4 bytes"):
        read_json(tmp_path / "a.json", most_bytes=4)
    with pytest.raises(ValueError, match="null"):
        read_json(tmp_path / "a\0.json")
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "b.json")
    monkeypatch.setattr(plain_files, "MOST_BYTES", 1000)
    with pytest.raises(ValueError, match="more than"):
        read_json(Path("/dev/zero"), most_bytes=1000)
