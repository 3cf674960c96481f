"""Both kinds of data sets are known by the bytes of their files."""

import numpy as np
import pytest

from nasperc.data.dataset import DetectionDataset, Record
from nasperc.data.label_map import LabelIds
from nasperc.data.video import Frame, VideoDataset


def images(folder):
    """Files that are no images: nothing here decodes one."""
    records = []
    for k in range(4):
        file = folder / f"{k}.png"
        file.write_bytes(b"image %d" % k)
        box = np.array([[1, 2, 30, 40]], np.float32)
        records.append(
            Record(k, file, (96, 128), box, np.array([k % 2]), np.array([False]), np.array([1102.0]))
        )
    return DetectionDataset("toy", "train", ("cat", "dog"), records)


def videos(folder):
    frames = []
    for k in range(4):
        file, labels = folder / f"{k}.png", folder / f"{k}_labels.png"
        file.write_bytes(b"frame %d" % k)
        labels.write_bytes(b"labels %d" % k)
        frames.append(Frame(file, labels if k else None, (72, 96)))
    return VideoDataset("clips", "train", ("sky", "road"), [frames[:2], frames[2:]], LabelIds.contiguous(2))


@pytest.fixture(params=[images, videos])
def make(request, tmp_path):
    """Opens the data set anew, as the next command does, without writing its files again."""
    folder = tmp_path / "data"
    folder.mkdir()
    dataset = request.param(folder)

    def again():
        if isinstance(dataset, DetectionDataset):
            return DetectionDataset(dataset.name, dataset.split, dataset.classes, dataset.records)
        runs = [[dataset.frames[k] for k in run] for run in dataset.runs]
        return VideoDataset(dataset.name, dataset.split, dataset.classes, runs, LabelIds.contiguous(2))

    return again


def test_the_bytes_of_every_file_count(make):
    prints = [make().fingerprint()]
    for file in make().files():
        original = file.read_bytes()
        file.write_bytes(original.upper())
        prints.append(make().fingerprint())
        file.write_bytes(original)
    assert len(set(prints)) == len(prints)
    assert make().fingerprint() == prints[0]


def test_the_old_fingerprint_does_not_see_the_images(make):
    before = make().old_fingerprint()
    make().files()[0].write_bytes(b"other pixels")
    assert make().old_fingerprint() == before
    # Nor does it matter whether the hashes are known.
    dataset = make()
    dataset.fingerprint()
    assert dataset.old_fingerprint() == before
    assert dataset.fingerprint() != before


def test_old_fingerprints_are_those_of_the_code_before(tmp_path):
    """Printed by the code as it was when only annotations counted."""
    assert images(tmp_path).old_fingerprint().startswith("e9d02b33bb99bdaa4e2be8854d689642")
    assert videos(tmp_path).old_fingerprint().startswith("e30e9b183221b75be0c080e2d840a95e")


def test_moved_data_are_the_same_data(tmp_path):
    for kind, place in ((images, "a"), (images, "b"), (videos, "c"), (videos, "d")):
        (tmp_path / place).mkdir()
        kind(tmp_path / place)
    assert images(tmp_path / "a").fingerprint() == images(tmp_path / "b").fingerprint()
    assert videos(tmp_path / "c").fingerprint() == videos(tmp_path / "d").fingerprint()


def test_files_are_read_by_one_command_only(make, tmp_path):
    phases = []
    first = make()
    assert first.read_files(tmp_path, lambda phase, fraction: phases.append((phase, fraction))) == []
    assert phases[-1] == ("reading images", 1.0)
    assert len(phases) == len(first.files())
    second = make()
    second.read_files(tmp_path, lambda phase, fraction: phases.append((phase, fraction)))
    assert len(phases) == len(first.files())
    assert second.fingerprint() == first.fingerprint() == make().fingerprint()


def test_the_first_file_that_changed_is_named(make, tmp_path):
    first = make()
    first.read_files(tmp_path)
    wanted = first.fingerprint()
    for number in (3, 2):
        first.files()[number].write_bytes(b"changed")
    changed = make()
    changed.read_files(tmp_path)
    assert changed.changed_since(lambda data: data == wanted) == first.files()[2]
    assert changed.changed_since(lambda data: False) is None
    # What is kept says by itself what it is of: a damaged one is of nothing.
    kept = tmp_path / f"images-{wanted[:16]}.sha256"
    kept.write_text(kept.read_text().replace("a", "b"))
    assert changed.changed_since(lambda data: data == wanted) is None
    kept.write_bytes(b"\xff\n")
    assert changed.changed_since(lambda data: data == wanted) is None


def test_whoever_takes_another_s_word_reads_nothing(make, tmp_path):
    wanted = make().fingerprint()
    worker = make()
    worker.take_word(wanted)
    for file in worker.files():
        file.unlink()
    assert worker.read_files(tmp_path) == []
    assert worker.fingerprint() == wanted


def test_a_part_takes_the_hashes_along(tmp_path):
    dataset = images(tmp_path)
    dataset.read_files(tmp_path)
    part = dataset.subset([2, 0])
    assert part.hashes == (dataset.hashes[2], dataset.hashes[0])
    whole = dataset.fingerprint()
    for file in dataset.files():
        file.unlink()
    assert part.fingerprint() not in (whole, dataset.subset([0, 2]).fingerprint())
