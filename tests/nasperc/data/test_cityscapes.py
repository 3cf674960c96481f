from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nasperc.data.cityscapes import CITYSCAPES_CLASSES, cityscapes_splits, read_cityscapes
from nasperc.errors import InputError

IDS = np.arange(34, dtype=np.uint8)[None]
# labels.py of the data set's own scripts: trainId by id.
TRAIN_IDS = [
    255, 255, 255, 255, 255, 255, 255, 0, 1, 255, 255, 2, 3, 4, 255, 255, 255, 5, 255, 6, 7, 8, 9, 10, 11, 12, 13,
    14, 15, 255, 255, 16, 17, 18,
]  # fmt: skip


def annotate(root: Path, split: str, frame: str, before: str | None = None, ids: np.ndarray = IDS) -> None:
    city = frame.split("_")[0]
    names = [("leftImg8bit", frame)]
    if before is not None:
        names.append(("leftImg8bit_sequence", before))
    for place, name in names:
        folder = root / place / split / city
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (34, 1)).save(folder / f"{name}_leftImg8bit.png")
    labels = root / "gtFine" / split / city
    labels.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ids).save(labels / f"{frame}_gtFine_labelIds.png")
    # Lies beside it in the download and must not be taken for it.
    Image.fromarray(ids + 1).save(labels / f"{frame}_gtFine_instanceIds.png")


@pytest.fixture
def cityscapes(tmp_path: Path) -> Path:
    annotate(tmp_path, "train", "ulm_000001_000019", "ulm_000001_000018")
    annotate(tmp_path, "train", "aachen_000000_000019", "aachen_000000_000018")
    annotate(tmp_path, "train", "aachen_000000_010100", "aachen_000000_010099")
    annotate(tmp_path, "val", "bonn_000000_000019")
    return tmp_path


def test_every_annotated_frame_follows_its_predecessor(cityscapes):
    assert cityscapes_splits(cityscapes) == ("train", "val")
    dataset = read_cityscapes(cityscapes, "train")
    assert [str(f.image.relative_to(cityscapes)) for f in dataset.frames[2:4]] == [
        "leftImg8bit_sequence/train/aachen/aachen_000000_010099_leftImg8bit.png",
        "leftImg8bit/train/aachen/aachen_000000_010100_leftImg8bit.png",
    ]
    assert dataset.sequences(2) == dataset.runs == (range(0, 2), range(2, 4), range(4, 6))
    assert dataset.annotated() == (1, 3, 5)
    assert dataset[0].semantic is None
    with pytest.raises(InputError, match="needs as many consecutive frames, but got a run of 2"):
        dataset.sequences(3)


def test_label_ids_become_train_ids(cityscapes):
    dataset = read_cityscapes(cityscapes, "train")
    assert dataset[1].semantic.tolist() == [TRAIN_IDS]
    assert len(dataset.classes) == 19
    assert [dataset.classes[k] for k in (0, 10, 11, 13, 18)] == ["road", "sky", "person", "car", "bicycle"]


def test_without_the_preceding_frame(cityscapes):
    dataset = read_cityscapes(cityscapes, "val")
    assert dataset.annotated() == (0,)
    with pytest.raises(
        InputError, match=r"a run of 1 \(in .*bonn_.*Add its neighbours .*leftImg8bit_sequence"
    ):
        dataset.sequences(2)


def test_bad_folders_are_told_in_one_line(cityscapes):
    with pytest.raises(InputError, match=r"the classes of Cityscapes are road, .*but got cat"):
        read_cityscapes(cityscapes, "train", ("cat",))
    assert len(read_cityscapes(cityscapes, "train", CITYSCAPES_CLASSES)) == 6
    with pytest.raises(InputError, match=r"must have images .* Splits found: train, val"):
        read_cityscapes(cityscapes, "test")
    annotate(cityscapes, "val", "bonn_000000_000019", ids=IDS + 1)
    with pytest.raises(InputError, match="but got 34"):
        read_cityscapes(cityscapes, "val")[0]
    annotate(cityscapes, "val", "bonn_000000_x")
    with pytest.raises(InputError, match="must be named <city>_<sequence>_<frame>_leftImg8bit, but got bonn"):
        read_cityscapes(cityscapes, "val")
    (cityscapes / "gtFine/train/ulm/ulm_000001_000019_gtFine_labelIds.png").unlink()
    with pytest.raises(
        InputError, match="must have an annotation, but got no file ulm_000001_000019_gtFine_lab"
    ):
        read_cityscapes(cityscapes, "train")
