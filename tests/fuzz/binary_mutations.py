"""Bad inputs out of good binary files: pickles, archives of torch, and files whose structure is at their beginning."""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import zipfile
from random import Random

from mutations import plain_value, splice

PICKLE = (
    *(
        b"cos\nsystem\n(S'touch was-run'\ntR.",
        b"c__builtin__\neval\n",
        b"cnumpy\nload\n",
        b"cbuiltins\ngetattr\n",
    ),
    *(
        b"R",
        b"b",
        b"o",
        b"i",
        b"0",
        b"1",
        b"2",
        b"(",
        b"t",
        b"]",
        b"}",
        b"\x8a\xff",
        b"h\0",
        b"j\xff\xff\xff\x7f",
        b".",
    ),
)


def pickled(data: bytes, draw: Random) -> bytes:
    """A pickle: opcodes and names put in."""
    if draw.random() < 0.5:
        return splice(data, draw)
    place = draw.randrange(len(data) + 1)
    return data[:place] + draw.choice(PICKLE) + data[place + draw.choice((0, 0, 1, 4)) :]


def torch_file(data: bytes, draw: Random) -> bytes:
    """A zip archive of torch: its pickle changed as bytes or as values, entries dropped, renamed or compressed."""
    if draw.random() < 0.25:
        return splice(data, draw)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = {each.filename: archive.read(each) for each in archive.infolist()}
    # What was changed before makes zipfile fail in every way there is.
    except Exception:
        return splice(data, draw)
    name = next((name for name in entries if name.endswith("data.pkl")), None)
    match draw.randrange(6):
        case 0 if entries:
            del entries[draw.choice(list(entries))]
        case 1 if entries:
            other = draw.choice(list(entries))
            entries[draw.choice(("../x", "/tmp/was-run", "archive/data/0", other + "x"))] = entries.pop(other)
        case 2 if entries:
            other = draw.choice(list(entries))
            entries[other] = splice(entries[other], draw)
        case _ if name is not None:
            entries[name] = pickled(entries[name], draw)
    buffer = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if draw.random() < 0.05 else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w", kind) as archive:
        for entry, content in entries.items():
            archive.writestr(re.sub(r"[^ -~]", "_", entry) or "x", content)
    return buffer.getvalue()


def _changed(data: bytes) -> bool:
    """Whether a torch file is no archive, or its pickle was changed as bytes."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            list(pickletools.genops(archive.read(name)))
    except Exception:
        return True
    return False


def torch_content(data: bytes, draw: Random) -> bytes:
    """A torch file of a dict: a value of it changed, or as :func:`torch_file`."""
    import torch

    # Without the reader's own checks, what was changed before may unpickle to gigabytes here.
    if draw.random() < 0.4 or len(data) > 20_000 or _changed(data):
        return torch_file(data, draw)
    try:
        content = torch.load(io.BytesIO(data), weights_only=True)
        buffer = io.BytesIO()
        torch.save(plain_value(content, draw), buffer)
    # What was changed before need be neither loadable nor a nest of dicts.
    except (Exception, pickle.PicklingError):
        return splice(data, draw)
    return buffer.getvalue()


def metadata(data: bytes, draw: Random) -> bytes:
    """A binary file whose structure is at its beginning, such as HDF5."""
    content = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 8, 32))):
        place = draw.randrange(min(len(content), draw.choice((96, 800, 4096, len(content)))) or 1)
        if draw.random() < 0.5 and place < len(content):
            content[place] ^= 1 << draw.randrange(8)
        else:
            content[place : place + 4] = draw.choice(
                (b"\xff" * 4, b"\0" * 4, b"\xff\xff\xff\x7f", b"\1\0\0\0")
            )
    return bytes(content[: draw.randrange(len(content) + 1)] if draw.random() < 0.1 else content)
