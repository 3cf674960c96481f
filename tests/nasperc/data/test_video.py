from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nasperc.data.image_rules import ImageRules
from nasperc.data.label_map import LabelIds
from nasperc.data.video import Frame, VideoDataset, list_frames
from nasperc.errors import InputError

IDS = LabelIds.contiguous(2)


def image(file: Path, size: tuple[int, int] = (4, 6), value: int = 0) -> Path:
    Image.new("RGB", size[::-1], (value, 0, 0)).save(file)
    return file


def label_map(file: Path, label: int, size: tuple[int, int] = (4, 6)) -> Path:
    Image.fromarray(np.full(size, label, np.uint8)).save(file)
    return file


@pytest.fixture
def frames(tmp_path: Path) -> list[Frame]:
    """Seven frames, of which 0 and 4 have no annotation."""
    (tmp_path / "annot").mkdir()
    return [
        Frame.of(
            image(tmp_path / f"{k}.png", value=k),
            None if k in (0, 4) else label_map(tmp_path / "annot" / f"{k}.png", k % 3),
        )
        for k in range(7)
    ]


def test_the_label_map_of_a_turned_frame_belongs_to_the_upright_picture(tmp_path):
    exif, apply = Image.Exif(), ImageRules(exif="apply")
    exif[0x0112] = 6
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif.tobytes())
    upright = label_map(tmp_path / "upright.png", 1, (6, 4))
    with Image.open(upright) as picture:
        # A map is never turned itself.
        picture.save(upright, exif=exif.tobytes())
    frame = Frame.of(tmp_path / "a.png", upright, apply)
    assert frame.size == (6, 4)
    dataset = VideoDataset("clips", "train", ("sky", "road"), [[frame]], IDS, apply)
    assert np.array_equal(dataset[0].image.permute(1, 2, 0), np.rot90(pixels, -1))
    assert dataset[0].semantic.shape == (6, 4)
    assert dataset.lines()[0].endswith("data.exif: apply reads them upright")
    with pytest.raises(InputError, match="size of its image, but got 4x6 instead of 6x4"):
        Frame.of(tmp_path / "a.png", upright)


@pytest.fixture
def dataset(frames) -> VideoDataset:
    return VideoDataset("clips", "train", ("sky", "road"), [frames[:4], frames[4:]], IDS)


def test_samples(dataset):
    assert len(dataset) == 7
    assert dataset.runs == (range(0, 4), range(4, 7))
    assert dataset.annotated() == (1, 2, 3, 5, 6)
    assert dataset[0].semantic is None
    assert dataset[2].semantic.unique().tolist() == [255]
    assert dataset[3].semantic.tolist() == torch.zeros(4, 6, dtype=torch.int64).tolist()
    assert [int(dataset[k].image[0, 0, 0]) for k in range(7)] == list(range(7))
    assert (dataset[-1].meta.image_id, dataset[-1].meta.size) == (7, (4, 6))
    with pytest.raises(IndexError):
        dataset[7]


def test_every_frame_after_the_first_is_annotated(dataset, frames):
    assert dataset.sequences(2) == (range(0, 2), range(1, 3), range(2, 4), range(4, 6), range(5, 7))
    assert dataset.sequences(3) == (range(0, 3), range(1, 4), range(4, 7))
    reordered = VideoDataset("clips", "train", ("sky", "road"), [[frames[k] for k in (1, 2, 0, 3)]], IDS)
    assert reordered.sequences(2) == (range(0, 2), range(2, 4))
    with pytest.raises(InputError, match="every one after the first must be annotated"):
        reordered.sequences(3)


def test_sequences_need_neighbours(frames):
    dataset = VideoDataset("clips", "train", ("sky", "road"), [frames[:4], frames[4:5], frames[5:]], IDS)
    with pytest.raises(InputError, match=r"2 frames needs as many .*, but got a run of 1 \(in .*4\.png\)"):
        dataset.sequences(2)
    for length in (0, 1):
        with pytest.raises(InputError, match=rf"at least two frames, but got {length}"):
            dataset.sequences(length)


def test_files_that_do_not_fit(tmp_path, frames):
    other = label_map(tmp_path / "other.png", 0, (6, 4))
    with pytest.raises(InputError, match=r"size of its image, but got 4x6 instead of 6x4 \(in .*other"):
        Frame.of(frames[0].image, other)
    with pytest.raises(InputError, match="readable"):
        Frame.of(frames[0].image, tmp_path / "missing.png")
    larger = Frame.of(image(tmp_path / "large.png", (8, 8)), None)
    with pytest.raises(InputError, match=r"one size, but got 8x8 after 6x4 \(in .*large"):
        VideoDataset("clips", "train", ("sky", "road"), [[*frames[:2], larger]], IDS)
    assert len(VideoDataset("clips", "train", ("sky", "road"), [frames, [larger]], IDS)) == 8


def test_fingerprint_follows_pixels_labels_runs_and_classes(dataset, frames):
    def fingerprint(classes=("sky", "road"), runs=(frames[:4], frames[4:])):
        return VideoDataset("clips", "train", classes, runs, IDS).fingerprint()

    first = dataset.fingerprint()
    assert first == fingerprint()
    others = [fingerprint(classes=("road", "sky")), fingerprint(runs=(frames,))]
    image(frames[0].image, value=99)
    others.append(fingerprint())
    label_map(frames[1].annotation, 0)
    others.append(fingerprint())
    assert len({first, *others}) == 5
    # Read once.
    assert dataset.fingerprint() == first
    frames[1].annotation.unlink()
    with pytest.raises(InputError, match="readable"):
        fingerprint()


def test_folder_of_frames(tmp_path):
    for name in ("b_2", "b_1", "a_9", "a_10", "a_11"):
        (tmp_path / f"{name}.png").write_bytes(b"not opened")
    (tmp_path / "notes.txt").write_text("no image")
    runs = list_frames(tmp_path)
    assert [[frame.stem for frame in run] for run in runs] == [["a_9", "a_10", "a_11"], ["b_1", "b_2"]]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="must hold images"):
        list_frames(tmp_path / "empty")
    with pytest.raises(InputError, match="must be readable"):
        list_frames(tmp_path / "nowhere")
