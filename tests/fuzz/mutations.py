"""Making bad inputs out of good ones: each function takes the bytes of a document and random numbers.

What knows a format changes one place of a valid document (drops, repeats, renames, retypes), so that it gets past
the parser; what the format does not let through is done to the bytes. Bytes that are not of the format any more (the
fuzzer feeds results back) are changed as bytes.
"""

from __future__ import annotations

import copy
import hashlib
import json
import zlib
from collections.abc import Callable
from random import Random
from typing import Any
from xml.etree import ElementTree

Mutation = Callable[[bytes, Random], bytes]

NASTY: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 2**31, 2**63, -(2**64), 10**40, 10**400),
    *(0.5, -0.0, 1e-320, 1e308, float("nan"), float("inf"), float("-inf")),
    *(
        "",
        " ",
        "x",
        "original",
        "best",
        "../../x",
        "/etc/passwd",
        "a\0b",
        "\ud800",
        "é\u202e",
        "\x1b[2J",
        "9" * 5000,
    ),
    *("NaN", "file.py:Class", "table:/dev/null", "1e400", "x" * 3000),
    *([], {}, [[]], {"": None}, {"name": "x"}, [1, "2", None]),
    # Flags and numbers as text, and a name with blanks.
    *("0", "1", "true", "False", "-1", "31.5", "dog "),
)
# Written out in the text: deep values are no easier for this program than for the one that is tested.
DEEP, DEEPER = "70 deep", "5000 deep"
SPLICES = (
    *(
        b"\0",
        b"\xff",
        b"\xff\xff\xff\xff",
        b"\x7f\xff\xff\xff",
        b"\x80\x00\x00\x00",
        b"\0" * 8,
        b"\xef\xbb\xbf",
    ),
    *(
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"9" * 400,
        b"[" * 300,
        b"{",
        b"}",
        b'"',
        b"\n",
        b"\r",
        b",",
        b":",
        b"&a",
        b"*a",
    ),
)
YAML = (
    *(
        "&a [*a, *a]",
        "!!python/object/apply:os.system [touch was-run]",
        "2001-02-31",
        "0x" + "f" * 400,
        "!!binary x",
    ),
    *(
        "<<: {a: 1}",
        "? [a]\n: b",
        "!!timestamp x",
        "a: 1\na: 2",
        "%YAML 9.9",
        "- - - -",
        "1_000",
        "1:60:60",
        "=",
        "~",
    ),
)
ENTITIES = (
    '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>',
    '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>',
    '<!DOCTYPE a SYSTEM "http://localhost:1/x.dtd">',
    '<!DOCTYPE a [<!ENTITY % p SYSTEM "file:///etc/passwd"> %p;]>',
    '<?xml version="1.0" encoding="x-none"?>',
    '<?xml version="1.0" encoding="utf-16"?>',
)


def splice(data: bytes, draw: Random) -> bytes:
    """Flip, overwrite, insert, repeat, remove or cut."""
    content = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 4, 16))):
        place = draw.randrange(len(content) + 1)
        length = draw.choice((1, 1, 2, 4, 16, 64))
        match draw.randrange(7):
            case 0 if place < len(content):
                content[place] ^= 1 << draw.randrange(8)
            case 1 if place < len(content):
                content[place] = draw.randrange(256)
            case 2:
                content[place:place] = draw.choice(SPLICES)
            case 3:
                found = draw.choice(SPLICES)
                content[place : place + len(found)] = found
            case 4:
                content[place:place] = content[place : place + length]
            case 5:
                del content[place : place + length]
            case 6 if draw.random() < 0.2:
                del content[place:]
    return bytes(content[:200_000])


def plain_value(value: Any, draw: Random) -> Any:
    """A nested value with one place changed."""
    value = copy.deepcopy(value)
    places = [(None, None), *_places(value)]
    holder, key = draw.choice(places)
    if holder is None:
        return draw.choice(NASTY) if draw.random() < 0.1 else value
    match draw.randrange(8):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        case 1 | 2 if isinstance(holder, dict):
            holder[draw.choice(("x", "name", "", "\ud800", "a" * 500, *holder))] = holder[key]
        case 3:
            other, at = draw.choice(places[1:])
            holder[key] = copy.deepcopy(other[at]) if at in _keys(other) else None
        case 4:
            holder[key] = [holder[key]] * draw.choice((1, 2, 300))
        case 5 if type(holder[key]) in (int, float) and abs(holder[key]) < 1e300:
            holder[key] = draw.choice(
                (-holder[key], holder[key] + 1, holder[key] * 10**9, float(holder[key]), 3.7)
            )
        case 6 if isinstance(holder[key], str):
            holder[key] = splice(holder[key].encode(errors="replace"), draw).decode(errors="replace")
        case 7 if draw.random() < 0.1:
            holder[key] = draw.choice((DEEP, DEEPER))
        case _:
            holder[key] = draw.choice(NASTY)
    return value


def _keys(holder: Any) -> Any:
    return holder if isinstance(holder, dict) else range(len(holder))


def _places(value: Any) -> Any:
    level = [value]
    while level:
        holders = [each for each in level if isinstance(each, dict | list)]
        yield from ((holder, key) for holder in holders for key in _keys(holder))
        level = [holder[key] for holder in holders for key in _keys(holder)]


def _dumped(value: Any) -> bytes:
    text = json.dumps(value)
    return (
        text.replace(json.dumps(DEEP), "[" * 70 + "]" * 70).replace(json.dumps(DEEPER), "[" * 5000).encode()
    )


def json_text(data: bytes, draw: Random) -> bytes:
    """A JSON document."""
    try:
        value = json.loads(data)
        if data.count(b"[[") > 30:
            return splice(data, draw)
    except (ValueError, RecursionError):
        return splice(data, draw)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        value = plain_value(value, draw)
    text = _dumped(value)
    return splice(text, draw) if draw.random() < 0.15 else text


def yaml_text(data: bytes, draw: Random) -> bytes:
    """A YAML document, that is, JSON or lines."""
    if data[:1] == b"{" and draw.random() < 0.8:
        return json_text(data, draw).replace(b"NaN", b".nan").replace(b"Infinity", b".inf")
    lines = data.split(b"\n")
    place = draw.randrange(len(lines))
    match draw.randrange(4):
        case 0:
            key, colon, _ = lines[place].partition(b":")
            lines[place] = key + colon + b" " + draw.choice(YAML).encode()
        case 1:
            lines.insert(place, draw.choice(YAML).encode())
        case 2:
            lines[place : place + 1] = [lines[place]] * 2
        case 3:
            return splice(data, draw)
    return b"\n".join(lines)


def journal_lines(data: bytes, draw: Random) -> bytes:
    """A journal: an event changed (its checksum made to fit, and mostly what chains the lines), lines dropped, repeated
    or put elsewhere."""
    lines = data.split(b"\n")
    place = draw.randrange(len(lines))
    match draw.randrange(8):
        case 0:
            del lines[place]
        case 1:
            lines.insert(draw.randrange(len(lines)), lines[place])
        case 2:
            return splice(data, draw)
        case _:
            body, key, _ = lines[place].rpartition(b',"crc":"')
            if key:
                changed = json_text(body + b"}", draw)
                lines[place] = changed[:-1] + key + f"{zlib.crc32(changed):08x}".encode() + b'"}'
    return b"\n".join(lines) if draw.random() < 0.2 else _chained(lines)


def _chained(lines: list[bytes]) -> bytes:
    """With the numbers and hashes that these lines would have."""
    chained, prev = [], hashlib.sha256(b"").hexdigest()
    for number, line in enumerate(lines, start=1):
        body, key, _ = line.rpartition(b',"crc":"')
        event = body.rpartition(b',"n":')[0] or body
        if key:
            text = event + f',"n":{number},"prev":"{prev}"}}'.encode()
            line = text[:-1] + key + f"{zlib.crc32(text):08x}".encode() + b'"}'
            prev = hashlib.sha256(line).hexdigest()
        chained.append(line)
    return b"\n".join(chained)


def xml_text(data: bytes, draw: Random) -> bytes:
    """An XML document."""
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError):
        return splice(data, draw)
    items = list(root.iter())
    item = draw.choice(items)
    match draw.randrange(7):
        case 0 if len(item):
            item.remove(draw.choice(list(item)))
        case 1:
            item.append(copy.deepcopy(draw.choice(items)))
        case 2:
            item.tag = draw.choice(("x", "object", "name", "bndbox", "size", "annotation"))
        case 3:
            item.text = str(
                draw.choice(
                    (*NASTY[:19], "", "person ", "True", "1", "1e400", "0x10", "1_0", "٣", "x" * 5000)
                )
            )
        case 4:
            return draw.choice(ENTITIES).encode() + data.replace(b"</", b"&b;</", draw.randrange(3))
        case 5:
            return splice(data, draw)
        case 6 if draw.random() < 0.2:
            return data.replace(b"<annotation>", b"<annotation>" + b"<a>" * 30_000)
    try:
        return ElementTree.tostring(root)
    except (TypeError, ValueError, RecursionError):
        return splice(data, draw)


def cells(data: bytes, draw: Random) -> bytes:
    """Lines of cells between commas; also lists of names, a line each."""
    rows = [line.split(b",") for line in data.split(b"\n")]
    row = draw.choice(rows)
    match draw.randrange(6):
        case 0:
            del row[draw.randrange(len(row))]
        case 1:
            row.append(draw.choice(row) if row else b"")
        case 2:
            rows.append(list(row))
        case 3 if row:
            cell = str(draw.choice(NASTY[:34])).encode(errors="replace")
            row[draw.randrange(len(row))] = cell
        case 4 if row:
            row[draw.randrange(len(row))] = b'"' + draw.choice(row)
        case _:
            return splice(data, draw)
    return b"\n".join(b",".join(row) for row in rows)
