"""The categories of a COCO file: which of them are classes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from nasperc.data.coco_fields import REPAIR, check_unique, field, is_text, object_entry
from nasperc.errors import InputError, shown


class Categories(NamedTuple):
    """``names``: by id, without the blanks around them, each once. ``notes``: what was mended, a line each.
    ``left_out``: name of the category that is none, as all others name it as the one above them."""

    names: dict[int, str]
    notes: tuple[str, ...] = ()
    left_out: str | None = None


def read_categories(content: dict[str, Any], file: Path) -> Categories:
    """The categories of a file that objects may have.

    Left out are, where no annotation has it: a category that all others name as their supercategory (exporters
    write it as the root of the others), and one that has the name of another.

    Raises:
        InputError: a malformed entry or annotation; an empty name; two annotated categories of one name; none.
    """
    entries = content["categories"]
    names = {field(entry, "id", int, file): _name(entry, file) for entry in entries}
    check_unique((entry["id"] for entry in entries), "category id", file)
    if not names:
        raise InputError("a COCO file must list categories", value="none", where=file, repair=REPAIR)
    above = {entry["id"]: _supercategory(entry, file) for entry in entries}
    annotated = {field(annotation, "category_id", int, file) for annotation in content["annotations"]}
    notes, name = [], None
    blank = [entry["name"] for entry in entries if entry["name"] != names[entry["id"]]]
    if blank:
        notes.append(f"blanks around {_counted(len(blank), 'category name')} left out (first: {blank[0]!r})")
    root = _root(names, above, annotated)
    if root is not None:
        name = names.pop(root)
        notes.append(
            f"category '{name}' (id {root}) left out: all others name it as their supercategory, and no annotation "
            f"has it"
        )
    doubles = _doubles(names, annotated, file)
    if doubles:
        first = f"'{names[doubles[0]]}', id {doubles[0]}"
        notes.append(
            f"{_counted(len(doubles), 'category', 'categories')} with the name of another and no annotation left "
            f"out (first: {first})"
        )
    kept = {key: each for key, each in names.items() if key not in set(doubles)}
    return Categories(kept, tuple(notes), name)


def _name(entry: Any, file: Path) -> str:
    written: str = field(entry, "name", str, file)
    if not is_text(written):
        raise InputError("a category name must be text", value=repr(written), where=file, repair=REPAIR)
    name = written.strip()
    if not name:
        raise InputError("a category name must not be empty", value=shown(entry), where=file, repair=REPAIR)
    return name


def _supercategory(entry: Any, file: Path) -> str | None:
    stated = object_entry(entry, file).get("supercategory")
    if stated is not None and not isinstance(stated, str):
        raise InputError(
            f"'supercategory' of category {entry['id']} must be text",
            value=shown(stated),
            where=file,
            repair=REPAIR,
        )
    return None if stated is None else stated.strip()


def _root(names: dict[int, str], above: dict[int, str | None], annotated: set[int]) -> int | None:
    """The first category without annotations that all others, at least one, have as their supercategory."""
    children = Counter(above.values())
    for key, name in names.items():
        others = len(names) - 1
        if key not in annotated and others and children[name] - (above[key] == name) == others:
            return key
    return None


def _doubles(names: dict[int, str], annotated: set[int], file: Path) -> list[int]:
    """The categories without annotations whose name another one has, which stays.

    Raises:
        InputError: two annotated ones have one name.
    """
    kept: dict[str, int] = {}
    # Annotated ones first: of several without annotations one stays, too.
    for key in sorted(names, key=lambda key: key not in annotated):
        first = kept.setdefault(names[key], key)
        if first != key and key in annotated:
            raise InputError(
                "a COCO category name must be unique",
                value=f"'{names[key]}' twice, ids {first} and {key}, with annotations of both",
                where=file,
                repair=REPAIR,
            )
    return [key for key, name in names.items() if kept[name] != key]


def _counted(count: int, one: str, several: str | None = None) -> str:
    return f"1 {one}" if count == 1 else f"{count} {several or one + 's'}"
