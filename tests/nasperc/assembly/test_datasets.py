from nasperc.assembly.datasets import open_video_split
from nasperc.data.recipe import DataRecipe, SyntheticVideoRecipe
from nasperc.data.synthetic_video import write_synthetic_video

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
