from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nasperc.data.camvid import CAMVID_CLASSES, camvid_splits, read_camvid
from nasperc.data.sequences import split_sequences
from nasperc.errors import InputError

# The frame numbers of the real data set: names, first and last numbers and steps of its runs.
TRAIN = [
    *(f"0001TP_{n:06d}" for n in range(6690, 6690 + 62 * 30, 30)),
    *(f"0006R0_f{n:05d}" for n in range(930, 930 + 101 * 30, 30)),
    *(f"0016E5_{901 if n == 900 else n:05d}" for n in range(390, 2401, 30)),
    *(f"0016E5_{n:05d}" for n in range(4350, 7921, 30)),
    *(f"0016E5_{n:05d}" for n in range(8190, 8190 + 16 * 30, 30)),
]
VAL = [f"0016E5_{n:05d}" for n in range(7959, 7959 + 101 * 2, 2)]


def write(root: Path, split: str, stems: list[str], suffix: str = "png", listed: bool = True) -> None:
    (root / split).mkdir(parents=True)
    (root / f"{split}annot").mkdir()
    for k, stem in enumerate(stems):
        Image.new("RGB", (4, 2), (k % 256, 0, 0)).save(root / split / f"{stem}.{suffix}")
        Image.fromarray(np.full((2, 4), k % 12, np.uint8)).save(root / f"{split}annot" / f"{stem}.png")
    if listed:
        (root / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in stems))


@pytest.fixture(scope="module")
def camvid(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("camvid")
    write(root, "train", TRAIN)
    write(root, "val", VAL)
    return root


def test_sequences_of_the_real_numbering(camvid):
    train, val = (read_camvid(camvid, split) for split in camvid_splits(camvid))
    assert (len(train), len(val)) == (367, 101)
    assert [len(run) for run in train.runs] == [62, 101, 68, 120, 16]
    assert [len(run) for run in val.runs] == [101]
    assert (len(train.sequences(3)), len(val.sequences(3))) == (357, 99)
    assert (len(train.sequences(2)), len(val.sequences(2))) == (362, 100)
    split = split_sequences(train.sequences(3), train.runs)
    names = [{train.frames[k].image.stem for each in part for k in each} for part in (split.train, split.val)]
    assert names[0].isdisjoint(names[1])
    assert len(names[1]) >= 30


def test_classes_and_void(camvid):
    train = read_camvid(camvid, "train")
    assert train.classes == CAMVID_CLASSES
    assert [train[k].semantic.unique().item() for k in range(13)] == [*range(11), 255, 0]


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_images_of_any_suffix_and_folders_without_a_list(tmp_path, suffix):
    write(tmp_path, "train", ["a_2", "a_1", "a_3"], suffix, listed=False)
    dataset = read_camvid(tmp_path, "train")
    assert [frame.image.name for frame in dataset.frames] == [f"a_{n}.{suffix}" for n in (1, 2, 3)]


def test_lists_of_segnet_and_their_order(tmp_path):
    write(tmp_path, "train", ["a_1", "a_2", "a_3"])
    lines = [f"/SegNet/CamVid/train/{s}.png /SegNet/CamVid/trainannot/{s}.png" for s in ("a_3", "a_1")]
    (tmp_path / "train.txt").write_text("\n".join(lines) + "\n\n")
    assert [frame.image.stem for frame in read_camvid(tmp_path, "train").frames] == ["a_1", "a_3"]
    (tmp_path / "train.txt").write_text("a_1\na_2.png\n")
    assert [frame.image.stem for frame in read_camvid(tmp_path, "train").frames] == ["a_1", "a_2"]


def test_classes_of_the_folder_or_of_the_caller(tmp_path):
    write(tmp_path, "train", ["a_1", "a_2", "a_3"])
    assert read_camvid(tmp_path, "train", ("sky", "road")).classes == ("sky", "road")
    (tmp_path / "classes.txt").write_text("sky\nroad\n")
    for wanted in (None, ("sky", "road")):
        dataset = read_camvid(tmp_path, "train", wanted)
        assert dataset.classes == ("sky", "road")
        assert dataset[2].semantic.unique().tolist() == [255]
    with pytest.raises(InputError, match=r"are sky, road, but got road, sky \(in .*classes\.txt"):
        read_camvid(tmp_path, "train", ("road", "sky"))


def test_bad_folders_are_told_in_one_line(tmp_path):
    write(tmp_path, "train", ["a_1", "a_2", "a_3"])
    annotation = tmp_path / "trainannot" / "a_2.png"
    Image.fromarray(np.full((2, 4), 77, np.uint8)).save(annotation)
    with pytest.raises(InputError, match=r"label ids must be out of .*but got 77 \(in .*a_2\.png"):
        read_camvid(tmp_path, "train")[1]
    Image.new("L", (4, 3)).save(annotation)
    with pytest.raises(InputError, match=r"but got 4x3 instead of 4x2 \(in .*trainannot/a_2\.png"):
        read_camvid(tmp_path, "train")
    annotation.unlink()
    with pytest.raises(InputError, match=r"must have an annotation, but got no file of the stem 'a_2'"):
        read_camvid(tmp_path, "train")
    (tmp_path / "train.txt").write_text("a_1\n")
    with pytest.raises(InputError, match="a run of 1"):
        read_camvid(tmp_path, "train").sequences(2)
    (tmp_path / "train" / "a_1.png").unlink()
    with pytest.raises(InputError, match=r"must lie in train/ .* no file of the stem 'a_1'"):
        read_camvid(tmp_path, "train")
    for content, message in (("", "must list images"), ("a_1\na_1\n", "'a_1' twice")):
        (tmp_path / "train.txt").write_text(content)
        with pytest.raises(InputError, match=message):
            read_camvid(tmp_path, "train")
    for folder in ("val", "valannot"):
        (tmp_path / folder).mkdir()
    with pytest.raises(InputError, match="must have images, but got none"):
        read_camvid(tmp_path, "val")
