"""Caches that were made before the bytes of images counted, and runs that go on with them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_video

from feature_cache.format import fingerprint
from nasperc.data.dataset import DetectionDataset, Record
from nasperc.data.label_map import LabelIds
from nasperc.data.video import Frame, VideoDataset
from nasperc.errors import InputError
from nasperc.old_files import without_new_keys
from proxy_tasks.base import TaskContext
from proxy_tasks.cached_setup import CachedSetup
from proxy_tasks.cached_task import CachedTask
from proxy_tasks.detection import DetectionProxy
from proxy_tasks.detection_pyramid import PyramidCache
from proxy_tasks.detection_recipe import DetectionProxyRecipe
from proxy_tasks.video_segmentation import VideoSegmentationProxy
from search_spaces.base import ORIGINAL

MakeContext = Callable[..., TaskContext]
MakeRecipe = Callable[..., DetectionProxyRecipe]
# As the code named them when only annotations counted: fingerprint of the task, its cache, the cache of an FPN.
DETECTION = {
    False: ("3ad1711040f2f82e5cdf5a9974b72b62", "cache-9de5e41fb1d58236.h5", "pyramid-193c144ceafade06.h5"),
    True: ("cd50bfe78b43f7150388f32d6f0439e8", "cache-b12e5d017de2a688.h5", "pyramid-0b1cc5e7e8e1cd02.h5"),
}
# Of the task, its caches, the static network.
VIDEO = (
    "2dc858fdd0affe146790b68c511239a1",
    "frames-train-342b2e919b68fc7b.h5",
    "frames-val-61ae9082a68fe11e.h5",
    "34232e0e1cc072de",
)


def images(folder: Path) -> DetectionDataset:
    records = []
    for k in range(4):
        file = folder / f"{k}.png"
        file.write_bytes(b"image %d" % k)
        box = np.array([[1, 2, 30, 40 + k]], np.float32)
        area = np.array([29.0 * (38 + k)])
        records.append(Record(k, file, (96, 128), box, np.array([k % 2]), np.array([False]), area))
    return DetectionDataset("toy", "train", ("cat", "dog"), records)


def videos(folder: Path) -> VideoDataset:
    runs = []
    for run in range(4):
        frames = []
        for k in range(8):
            file, labels = folder / f"{run}_{k}.png", folder / f"{run}_{k}_labels.png"
            file.write_bytes(b"frame %d %d" % (run, k))
            labels.write_bytes(b"labels %d %d" % (run, k))
            frames.append(Frame(file, labels, (72, 96)))
        runs.append(frames)
    return VideoDataset("clips", "train", ("sky", "road"), runs, LabelIds.contiguous(2))


@pytest.mark.parametrize("finetune", [False, True])
def test_old_names_of_detection_stay_computable(
    tmp_path: Path, make_recipe: MakeRecipe, make_context: MakeContext, finetune: bool
) -> None:
    task = DetectionProxy(make_recipe(finetune=finetune), make_context(tmp_path / "prepared"))
    task.setup.__dict__["dataset"] = images(tmp_path)
    of_task, cache, pyramid = DETECTION[finetune]
    new = task.fingerprint(), task.setup.cache_path.name
    assert task.earlier_fingerprints()[0].startswith(of_task)
    task.setup.go_on_as_old(task.setup.old_identity)
    assert task.fingerprint() == task.earlier_fingerprints()[0] != new[0]
    assert task.setup.cache_path.name == cache != new[1]
    widths = {"fpn": 32, "head": 32}
    assert PyramidCache(task.setup, ORIGINAL, widths).path.name == pyramid


def test_old_names_of_videos_stay_computable(tmp_path: Path) -> None:
    task = tiny_video.tiny_task(tmp_path / "prepared")
    setup = task.setup
    setup.__dict__["dataset"] = videos(tmp_path)
    of_task, train, val, static = VIDEO
    new = {task.fingerprint(), setup.path("train").name, setup.path("val").name}
    assert task.earlier_fingerprints()[0].startswith(of_task)
    setup.go_on_as_old(setup.old_identity)
    assert task.fingerprint() == task.earlier_fingerprints()[0]
    assert (setup.path("train").name, setup.path("val").name) == (train, val)
    assert fingerprint(setup.static_contents).startswith(static)
    assert not new & {task.fingerprint(), train, val}


def test_new_keys_are_left_out_however_deep_they_lie() -> None:
    old = {"a": [{"b": 1}], "c": {"d": "text"}}
    new = {"a": [{"b": 1, "crowd": "background"}], "c": {"d": "text", "range": None}, "exif": "apply"}
    assert without_new_keys(new) == old
    kept = {"a": [{"b": 1, "crowd": "background"}], "c": {"d": "text"}, "exif": "apply"}
    assert without_new_keys(new, whatever=False) == kept


Make = Callable[[TaskContext], CachedTask]


@pytest.fixture(params=["detection", "video"])
def opened(
    request: pytest.FixtureRequest, tmp_path: Path, make_recipe: MakeRecipe, make_context: MakeContext
) -> tuple[Make, TaskContext]:
    """Makes an unprepared task; its context, on a copy of data that somebody may change and a prepared folder."""
    if request.param == "video":
        context, sub_folder, format = tiny_video.tiny_context(tmp_path / "runs"), ".", "camvid"
        (written,) = request.getfixturevalue("video_folder").glob("synthetic-video-*")
    else:
        context, sub_folder, format = make_context(tmp_path / "runs"), "coco", "coco"
        (written,) = request.getfixturevalue("prepared_folder").glob("synthetic-*")

    def make(context: TaskContext) -> CachedTask:
        if request.param == "video":
            return VideoSegmentationProxy(tiny_video.tiny_recipe(), context)
        return DetectionProxy(make_recipe(), context)

    shutil.copytree(written, tmp_path / "data")
    data = context.data.model_copy(update={"path": tmp_path / "data" / sub_folder, "format": format})
    return make, replace(context, data=data)


def prepared_by_the_code_before(make: Make, context: TaskContext) -> CachedTask:
    """A task whose caches have the names and contents of old; records are made by today's rules."""
    old = make(context)
    old.setup.go_on_as_old(old.setup.old_identity)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CachedSetup, "check_may_build", lambda setup, path: None)
        old.prepare()
    return old


def files(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir() if file.suffix in {".h5", ".pt", ".pth"}}


def test_an_old_run_goes_on_with_its_own_cache_and_says_so(opened: tuple[Make, TaskContext]) -> None:
    make, context = opened
    before = prepared_by_the_code_before(make, context)
    phases: list[str] = []
    made = files(context.folder)
    resumed = make(replace(context, began_with=before.fingerprint()))
    resumed.prepare(lambda phase, fraction: phases.append(phase))
    assert phases == []
    assert files(context.folder) == made
    assert resumed.fingerprint() == before.fingerprint()
    assert sum("pixels not known" in note for note in resumed.notes()) == 1
    # Its workers, too.
    worker = make(replace(context, known=resumed.known()))
    worker.prepare()
    assert worker.fingerprint() == before.fingerprint()
    assert files(context.folder) == made


def test_a_new_run_takes_nothing_of_an_old_one(opened: tuple[Make, TaskContext]) -> None:
    make, context = opened
    before = prepared_by_the_code_before(make, context)
    made = files(context.folder)
    new = make(context)
    new.prepare()
    assert new.fingerprint() != before.fingerprint()
    assert before.fingerprint() in new.earlier_fingerprints()
    assert len(files(context.folder)) == 2 * len(made)
    assert not [note for note in new.notes() if "pixels" in note]


def test_an_old_run_whose_cache_is_gone_is_refused(opened: tuple[Make, TaskContext]) -> None:
    make, context = opened
    before = prepared_by_the_code_before(make, context)
    lost = sorted(context.folder.glob("*.h5"))[0]
    lost.unlink()
    kept = files(context.folder)
    resumed = make(replace(context, began_with=before.fingerprint()))
    with pytest.raises(InputError, match=r"goes on with what it prepared then.*--warm-start") as error:
        resumed.prepare()
    assert error.value.where == str(lost)
    assert files(context.folder) == kept


def test_a_run_is_not_resumed_on_other_pixels(opened: tuple[Make, TaskContext]) -> None:
    make, context = opened
    first = make(context)
    first.prepare()
    made = files(context.folder)
    changed = first.setup.dataset.files()[2]
    original = changed.read_bytes()
    # Of the same size, and an image still.
    changed.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
    with pytest.raises(
        InputError, match=r"must measure what it measured before, but got other bytes"
    ) as error:
        make(replace(context, began_with=first.fingerprint())).prepare()
    assert error.value.where == f"{changed}, the first file that changed"
    assert files(context.folder) == made
    changed.write_bytes(original)
    phases: list[str] = []
    make(replace(context, began_with=first.fingerprint())).prepare(lambda phase, _: phases.append(phase))
    assert phases == ["reading images"]
    with pytest.raises(InputError, match="another task than the cccccccc"):
        make(replace(context, began_with="c" * 64)).prepare()


def test_other_pixels_share_nothing(opened: tuple[Make, TaskContext]) -> None:
    make, context = opened
    first = make(context)
    first.prepare()
    made = files(context.folder)
    changed = first.setup.dataset.files()[0]
    changed.write_bytes(changed.read_bytes() + b"\0")
    second = make(context)
    second.prepare()
    assert second.fingerprint() != first.fingerprint()
    assert len(files(context.folder)) == 2 * len(made)


def test_what_is_made_while_its_images_are_written_to_gets_no_name(opened: tuple[Make, TaskContext]) -> None:
    make, context = opened
    task = make(context)
    image = task.setup.dataset.files()[0]

    def write_meanwhile(phase: str, fraction: float) -> None:
        if phase == "caching":
            image.write_bytes(image.read_bytes() + b"\0")

    with pytest.raises(InputError, match="must not change while something is made of them") as error:
        task.prepare(write_meanwhile)
    assert error.value.where == str(image)
    assert not list(context.folder.glob("*.h5"))


def test_workers_take_the_driver_s_word_and_read_no_image(opened: tuple[Make, TaskContext]) -> None:
    make, context = opened
    driver = make(context)
    driver.prepare()
    made = files(context.folder)
    (context.folder / "file-hashes.txt").unlink()
    for file in driver.setup.dataset.files():
        # On a node of a cluster every stamp may be another; here the bytes are, which nobody looks at.
        file.write_bytes(file.read_bytes() + b"\0")
    worker = make(replace(context, known=driver.known()))
    worker.prepare()
    assert worker.fingerprint() == driver.fingerprint()
    assert files(context.folder) == made
    assert not (context.folder / "file-hashes.txt").exists()


def test_moved_data_keep_their_cache(opened: tuple[Make, TaskContext], tmp_path: Path) -> None:
    make, context = opened
    make(context).prepare()
    made = files(context.folder)
    assert context.data.path is not None
    shutil.move(context.data.path, tmp_path / "moved")
    moved = make(replace(context, data=context.data.model_copy(update={"path": tmp_path / "moved"})))
    moved.prepare()
    assert files(context.folder) == made
