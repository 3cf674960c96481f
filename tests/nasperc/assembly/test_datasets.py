import json

import numpy as np
import pytest

from nasperc.assembly.datasets import open_panoptic_split, open_split, open_video_split
from nasperc.data.label_map import write_label_map
from nasperc.data.recipe import DataRecipe, SyntheticRecipe, SyntheticVideoRecipe
from nasperc.data.synthetic import write_synthetic
from nasperc.data.synthetic_video import write_synthetic_video
from nasperc.errors import InputError

SMALL = SyntheticVideoRecipe(train=2, val=1, test=1, frames=3, size=(32, 48))


def test_synthetic_videos_are_written_once_a_variant(tmp_path):
    data = DataRecipe(synthetic_video=SMALL)
    found = [open_video_split(data, role, tmp_path) for role in ("train", "val", "test")]
    assert [len(each.runs) for each in found] == [2, 1, 1]
    assert found[0][0].meta.size == (32, 48)
    other = DataRecipe(synthetic_video=SMALL.model_copy(update={"seed": 1}))
    open_video_split(other, "train", tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_splits_of_a_folder_by_the_names_of_the_recipe(tmp_path):
    folder = write_synthetic_video(tmp_path / "data", videos={"first": 2, "last": 1}, frames=2, size=(32, 32))
    data = DataRecipe(path=folder, train_split="first", val_split="last")
    assert [open_video_split(data, role, tmp_path).split for role in ("train", "val")] == ["first", "last"]


@pytest.fixture
def coco(tmp_path):
    """A function that writes the synthetic data set with every annotation changed, and opens a split of it."""

    def write(change, split="train"):
        folder = write_synthetic(
            tmp_path / "coco", images={"train": 2, "val": 1}, size=(64, 64), formats=("coco",)
        )
        for name in ("train", "val"):
            file = folder / "annotations" / f"instances_{name}.json"
            content = json.loads(file.read_text())
            content["annotations"] = [
                {**each, **change} for each in content["annotations"] if change is not None
            ]
            file.write_text(json.dumps(content))
        return open_split(DataRecipe(path=folder), split, tmp_path)

    return write


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, r"2 images \(0 crowd, 0 dropped\)"),
        ({"iscrowd": 1}, r"2 images \([1-9]\d* crowd, 0 dropped\)"),
        ({"bbox": [1, 1, 0, 5]}, r"2 images \(0 crowd, [1-9]\d* dropped\)"),
    ],
)
def test_a_train_split_without_an_object_is_refused(coco, change, message):
    with pytest.raises(InputError, match=f"at least one object to learn, but got none in {message}"):
        coco(change)


def test_other_splits_may_show_nothing(coco):
    assert coco(None, "val").objects() == 0


def test_a_train_split_of_difficult_objects_alone_is_refused(tmp_path):
    folder = write_synthetic(tmp_path / "voc", images={"train": 2}, size=(64, 64), formats=("voc",))
    for file in (folder / "Annotations").iterdir():
        file.write_text(file.read_text().replace("<difficult>0<", "<difficult>1<"))
    with pytest.raises(InputError, match=r"none in 2 images \([1-9]\d* difficult, 0 dropped\)"):
        open_split(DataRecipe(path=folder), "train", tmp_path)


def test_a_train_split_of_void_alone_is_refused(tmp_path):
    videos = {"train": 2, "val": 1}
    folder = write_synthetic_video(tmp_path / "data", videos=videos, frames=2, size=(32, 32))
    for split in videos:
        for file in (folder / f"{split}annot").iterdir():
            write_label_map(file, np.full((32, 32), 255))
    data = DataRecipe(path=folder)
    with pytest.raises(InputError, match="the train split must show at least one pixel of a class"):
        open_video_split(data, "train", tmp_path)
    val = open_video_split(data, "val", tmp_path)
    assert not val.shows_class(val.annotated())
    last = val.frames[-1].annotation
    write_label_map(last, np.eye(32) * 255)
    assert val.shows_class(val.annotated())
    assert not val.shows_class(val.annotated()[:-1])


def test_other_annotations_are_read_where_a_split_is_measured(tmp_path):
    folder = write_synthetic(
        tmp_path / "coco", images={"train": 2, "val": 1}, size=(64, 64), formats=("coco",)
    )
    content = json.loads((folder / "annotations/instances_val.json").read_text())
    content["annotations"] = content["annotations"][:1]
    (tmp_path / "mine.json").write_text(json.dumps(content))
    data = DataRecipe(path=folder, annotations=tmp_path / "mine.json")
    assert [open_split(data, split, tmp_path).objects() for split in ("train", "val")] == [
        open_split(DataRecipe(path=folder), "train", tmp_path).objects(),
        1,
    ]
    found = open_split(data, "val", tmp_path, masks=True)[0].masks
    assert (len(found), found.visible().tolist()) == (1, [True])


def test_one_class_is_the_recipes_to_choose(tmp_path):
    recipe = {"train": 2, "val": 1, "test": 1, "size": (64, 64)}
    several = DataRecipe(synthetic=recipe)
    one = DataRecipe(synthetic=recipe, one_class=True)
    for split in ("train", "val"):
        data = open_split(one, split, tmp_path)
        assert data.classes == ("object",)
        assert data.objects() == open_split(several, split, tmp_path).objects()
    assert len(open_split(several, "train", tmp_path).classes) > 1


def test_panoptic_splits_of_the_synthetic_data_set_and_of_a_folder(tmp_path):
    data = DataRecipe(synthetic=SyntheticRecipe(train=4, val=1, test=1, size=(64, 64)))
    train, val = (open_panoptic_split(data, role, tmp_path) for role in ("train", "val"))
    assert (len(train), len(val)) == (4, 1)
    assert train.panoptic == val.panoptic
    (folder,) = tmp_path.iterdir()
    names = (*reversed(train.classes), *reversed(train.panoptic.stuff))
    (tmp_path / "classes.txt").write_text("\n".join(names))
    listed = DataRecipe(path=folder, classes=tmp_path / "classes.txt", val_split="test")
    other = open_panoptic_split(listed, "val", tmp_path)
    assert (other.split, other.panoptic.names) == ("test", names)
    with pytest.raises(InputError, match=r"data\.one_class"):
        open_panoptic_split(DataRecipe(path=folder, one_class=True), "train", tmp_path)


def test_a_panoptic_train_split_shows_a_thing(tmp_path):
    data = DataRecipe(synthetic=SyntheticRecipe(train=2, val=1, test=1, size=(64, 64)))
    open_panoptic_split(data, "train", tmp_path)
    (folder,) = tmp_path.iterdir()
    file = folder / "annotations" / "panoptic_train.json"
    content = json.loads(file.read_text())
    for annotation in content["annotations"]:
        for segment in annotation["segments_info"]:
            segment["iscrowd"] = 1
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match="at least one object to learn, but got none in 2 images"):
        open_panoptic_split(DataRecipe(path=folder), "train", tmp_path)
