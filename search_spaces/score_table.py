"""A file of architectures and their scores: one row an architecture, as benchmarks such as NAS-Bench-201 give them."""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nasperc.errors import InputError

TOKENS = "tokens"
SCORE = "score"
MOST_BYTES = 256 << 20
# Every beginning of an architecture is kept.
MOST_COLUMNS = 1000


@dataclass(frozen=True)
class ScoreTable:
    """What a table says.

    ``decisions``: names of the decisions. ``choices``: of each, in ascending order. ``scores``: tokens (one
    index into ``choices`` for each decision) -> the score, then the metrics. ``columns``: the names of those.
    """

    decisions: tuple[str, ...]
    choices: tuple[tuple[str, ...], ...]
    columns: tuple[str, ...]
    scores: dict[tuple[int, ...], tuple[float, ...]]


def read_score_table(path: Path, score: str | None = None) -> ScoreTable:
    """Read a CSV file with a header, also as ``.csv.gz``.

    From left to right the columns are decisions, the score (higher is better), and metrics that are reported
    beside it. The decisions may stand in the one column ``tokens``, a character each. Blanks around a cell do not
    count.

    Args:
        path: the file.
        score: name of the score's column; by default ``score`` if there is one, else the first after
            ``tokens``, else the last.

    Raises:
        InputError: no such file or column; a row of another length; a score or metric that is no finite
            number; an architecture that stands there twice; no row at all.
    """
    header, rows = _read(path)
    position = _score_position(header, score, path)
    in_one = header[:position] == [TOKENS]
    keys: list[tuple[str, ...]] = []
    values: list[tuple[float, ...]] = []
    for line, row in enumerate(rows, start=2):
        where = f"{path}, row {line}"
        if len(row) != len(header):
            raise _bad("a row must have a cell for each column of the header", f"{len(row)} cells", where)
        # "a " beside "a" would be another choice.
        cells = [cell.strip() for cell in row[:position]]
        if not in_one and not all(cells):
            raise _bad("a cell of a decision must name a choice", "an empty one", where)
        keys.append(tuple(cells[0]) if in_one else tuple(cells))
        if len(keys[-1]) != len(keys[0]):
            raise _bad(f"tokens must be {len(keys[0])} characters in every row", row[0], where)
        values.append(tuple(_number(cell, where) for cell in row[position:]))
    if not keys or not keys[0]:
        raise _bad("a table must have at least one row, with at least one decision", "none", path)
    choices = tuple(tuple(sorted(set(column), key=_natural)) for column in zip(*keys, strict=True))
    tokens = [{choice: token for token, choice in enumerate(column)} for column in choices]
    scores: dict[tuple[int, ...], tuple[float, ...]] = {}
    for line, (key, value) in enumerate(zip(keys, values, strict=True), start=2):
        architecture = tuple(index[choice] for index, choice in zip(tokens, key, strict=True))
        if architecture in scores:
            raise _bad("an architecture must stand in one row only", " ".join(key), f"{path}, row {line}")
        scores[architecture] = value
    names = [f"{TOKENS}.{index}" for index in range(len(choices))] if in_one else header[:position]
    return ScoreTable(tuple(names), choices, tuple(header[position:]), scores)


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        # What a few kilobytes unpack to may fill the memory.
        with opener(path, "rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES} bytes")
        text = io.StringIO(content.decode("utf-8-sig"), newline="")
        rows = [row for row in csv.reader(text, strict=True) if row]
    except (OSError, EOFError, ValueError, csv.Error, zlib.error) as error:
        raise _bad("a table must be a readable CSV file (.csv or .csv.gz)", error, path) from error
    if not rows:
        raise _bad("a table must have a header", "an empty file", path)
    header = [name.strip() for name in rows[0]]
    if len(header) > MOST_COLUMNS:
        raise _bad(f"a table must have at most {MOST_COLUMNS} columns", len(header), path)
    if len(set(header)) < len(header) or not all(header):
        raise _bad("the columns of a table must have names, each its own", ", ".join(header), path)
    return header, rows[1:]


def _score_position(header: Sequence[str], score: str | None, path: Path) -> int:
    if score is None and SCORE in header:
        score = SCORE
    elif score is None:
        score = header[1] if header[0] == TOKENS and len(header) > 1 else header[-1]
    if score not in header[1:]:
        raise InputError(
            "the score must be a column of the table, right of the decisions",
            value=score,
            where=path,
            repair=f"Columns: {', '.join(header)}. Choose one with --set space.score=NAME.",
        )
    return header.index(score)


def _number(cell: str, where: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _bad("the score and the columns right of it must be finite numbers", repr(cell), where)
    return value


def _natural(choice: str) -> tuple[float, str]:
    """Numbers by their value, before all other text."""
    try:
        return float(choice), choice
    except ValueError:
        return math.inf, choice


def _bad(rule: str, value: object, where: str | Path) -> InputError:
    return InputError(rule, value=value, where=where, repair="Correct the file.")
