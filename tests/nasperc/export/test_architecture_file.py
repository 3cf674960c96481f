import json
import os
from importlib import resources

import numpy as np
import pytest

from nasperc.errors import InputError
from nasperc.export.architecture_file import open_space, read_architecture, write_architecture
from search_spaces.base import Architecture
from search_spaces.fcos_decoder import FcosDecoder
from search_spaces.fcos_recipe import FcosDecoderRecipe

SPACE = FcosDecoder(FcosDecoderRecipe())
THESIS = FcosDecoder(FcosDecoderRecipe(variant="thesis"))


def sampled(space=SPACE, seed=0):
    rng = np.random.default_rng(seed)
    return space.architecture({part: space.sample(part, rng) for part in space.parts})


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "best.json"
    write_architecture(path, SPACE, sampled(), {"fpn": 128, "head": 256})
    return path


def edit(path, **changes):
    values = json.loads(path.read_text())
    del values["hash"]
    values.update(changes)
    path.write_text(json.dumps(values))
    return values


def test_write_and_read(file):
    read = read_architecture(file, SPACE)
    assert read.architecture == sampled()
    assert read.widths == {"fpn": 128, "head": 256}
    assert read.space is SPACE
    values = json.loads(file.read_text())
    assert values["hash"] == SPACE.hash(sampled())
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("space", [SPACE, THESIS])
def test_the_space_is_found_by_name_and_variant(tmp_path, space):
    path = tmp_path / "a.json"
    write_architecture(path, space, sampled(space))
    read = read_architecture(path)
    assert isinstance(read.space, FcosDecoder)
    assert read.space.variant == space.variant
    assert read.architecture == sampled(space)
    assert read.widths is None


def test_original_parts(tmp_path):
    path = tmp_path / "a.json"
    architecture = SPACE.architecture({"fpn": "original", "head": sampled().parts["head"]})
    write_architecture(path, SPACE, architecture)
    assert read_architecture(path).architecture == architecture


def test_the_reference_is_a_valid_file_with_its_hash():
    with resources.as_file(resources.files("experiments") / "nas_fcos_reference.json") as path:
        read = read_architecture(path)
        assert json.loads(path.read_text())["hash"] == SPACE.hash(read.architecture)
    fpn = read.architecture.parts["fpn"]
    assert [fpn[start : start + 5] for start in (0, 20, 30)] == [
        (3, 3, 4, 4, 1), (5, 3, 4, 4, 1), (7, 2, 4, 4, 1),
    ]  # fmt: skip
    assert read.architecture.parts["head"] == (5, 1, 5, 0, 4, 4, 0)


def test_malformed_json_names_line_and_column(file):
    file.write_text(file.read_text().replace('"version": 1,', '"version": 1'))
    with pytest.raises(InputError, match=r"best.json, line 4, column 3"):
        read_architecture(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "well-formed JSON"),
        (b"\xff\xfe{}", "UTF-8"),
        (b"[1, 2]", "JSON object"),
        (b"[" * 100_000, "JSON"),
        (b"{}", "parts"),
        (b'{"space": "fcos_decoder", "parts": {}}', "version"),
    ],
)
def test_no_architecture_at_all(tmp_path, content, message):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_architecture(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": "unknown_space"}, "registered name"),
        ({"space": ["fcos_decoder"]}, "registered name"),
        ({"variant": "other"}, "variant"),
        ({"version": 2}, "version"),
        ({"version": "1"}, "whole number"),
        ({"version": True}, "whole number"),
        ({"surprise": 1}, "surprise"),
        ({"parts": {"fpn": "original"}}, "parts"),
        ({"parts": {"fpn": "original", "head": "none"}}, "head"),
        ({"parts": {"fpn": "original", "head": [5, 1, 5, 0, 4, 4]}}, "7 tokens"),
        ({"parts": {"fpn": "original", "head": [5, 1, 6, 0, 4, 4, 0]}}, r"token 2 of head \(head.op3\)"),
        ({"parts": {"fpn": "original", "head": [5, 1, 5.0, 0, 4, 4, 0]}}, "whole numbers"),
        ({"parts": {"fpn": "original", "head": [5, 1, True, 0, 4, 4, 0]}}, "whole numbers"),
        ({"parts": {"fpn": "original", "head": [5, 1, None, 0, 4, 4, 0]}}, "whole numbers"),
        ({"widths": {"fpn": 0, "head": 64}}, "widths"),
        ({"widths": {"fpn": 64.0}}, "widths"),
        ({"widths": [128]}, "widths"),
    ],
)
def test_everything_is_validated(file, changes, message):
    edit(file, **changes)
    with pytest.raises(InputError, match=message) as caught:
        read_architecture(file)
    assert "\n" not in str(caught.value)


def test_a_fifth_consumed_block_is_refused_with_its_position(file):
    fpn = list(sampled().parts["fpn"])
    for block, (id1, id2) in enumerate([(0, 0), (4, 4), (5, 5), (6, 6), (7, 7), (8, 0), (0, 0)]):
        fpn[5 * block : 5 * block + 2] = id1, id2
    edit(file, parts={"fpn": fpn, "head": "original"})
    with pytest.raises(InputError, match=r"token 25 of fpn \(fpn.block6.id1\) must be one of"):
        read_architecture(file)


def test_an_edited_file_does_not_fit_its_hash(file):
    values = json.loads(file.read_text())
    values["parts"]["head"][0] = (values["parts"]["head"][0] + 1) % 6
    file.write_text(json.dumps(values))
    with pytest.raises(InputError, match="hash"):
        read_architecture(file)


def test_a_file_of_another_variant_is_refused(file):
    with pytest.raises(InputError, match="variant of an architecture must be 'thesis'"):
        read_architecture(file, THESIS)


def test_a_missing_file_and_a_folder(tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(InputError, match="readable"):
            read_architecture(path)


def test_an_invalid_architecture_leaves_the_old_file(file):
    before = file.read_text()
    with pytest.raises(InputError):
        write_architecture(file, THESIS, sampled())
    assert file.read_text() == before


def test_a_failing_write_leaves_the_old_file_and_nothing_else(file, monkeypatch):
    before = file.read_text()

    def full(*paths):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError, match="No space left"):
        write_architecture(file, SPACE, sampled(seed=1))
    assert file.read_text() == before
    assert list(file.parent.iterdir()) == [file]


def test_a_folder_that_does_not_exist(tmp_path):
    with pytest.raises(InputError, match="writable"):
        write_architecture(tmp_path / "none" / "a.json", SPACE, sampled())


def test_open_space_needs_a_known_variant():
    with pytest.raises(InputError, match="variant"):
        open_space(Architecture("fcos_decoder", 1, "other", {}))
