"""The tests of several rooms share small checkpoints for videos."""

import sys
from pathlib import Path

import pytest

from nasperc.data.formats import open_video
from nasperc.data.synthetic_video import write_synthetic_video

sys.path.append(str(Path(__file__).parent))

FRAMES, SIZE = 4, (48, 64)


@pytest.fixture(scope="session")
def video_data(tmp_path_factory):
    """A folder with two videos to train on, and one each to validate and test on."""
    folder = tmp_path_factory.mktemp("data") / "video"
    return write_synthetic_video(folder, videos={"train": 2, "val": 1, "test": 1}, frames=FRAMES, size=SIZE)


@pytest.fixture(scope="session")
def videos(video_data):
    """The train split."""
    return open_video(video_data, "train")
