"""Running a segmentation network along videos, in the pixels of the original frames."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nasperc.data.normalisation import Normalisation
from nasperc.data.video import VideoDataset
from nasperc.evaluation.miou import SegmentationEvaluation
from nasperc.models.segmenter import StaticSegmenter
from nasperc.models.video_segmenter import State, VideoSegmenter
from nasperc.ops.resize import resize_to

Network = VideoSegmenter | StaticSegmenter


class FrameByFrame:
    """The labels of frames that are given one after another.

    With a dynamic cell each frame but the first gets the state that the last one left; a per-frame network knows no
    other frame.

    Args:
        model: in evaluation mode.
        normalisation: the backbone's.
    """

    def __init__(self, model: Network, normalisation: Normalisation) -> None:
        self.model, self.normalisation = model, normalisation
        self._state: State | None = None

    def restart(self) -> None:
        """The next frame is the first of another video."""
        self._state = None

    @torch.no_grad()
    def labels(self, image: Tensor) -> Tensor:
        """Labels (H, W) int64 of a frame (3, H, W), uint8 RGB: of the logits, upsampled bilinearly, the largest."""
        device = next(self.model.parameters()).device
        frame = self.normalisation.apply(image[None].to(device)).contiguous(memory_format=torch.channels_last)
        logits = resize_to(self._logits(frame), (image.shape[-2], image.shape[-1]))
        return logits[0].argmax(dim=0).cpu()

    def _logits(self, frame: Tensor) -> Tensor:
        if isinstance(self.model, StaticSegmenter):
            return self.model(frame).logits
        step = self.model.start(frame) if self._state is None else self.model.step(self._state, frame)
        logits, self._state = step
        return logits


def segment_dataset(
    model: Network,
    dataset: VideoDataset,
    normalisation: Normalisation,
    *,
    sequence_length: int | None = None,
    trimap_width: int | None = 3,
    on_frame: Callable[[int, int], None] | None = None,
) -> SegmentationEvaluation:
    """Pixels of a whole split, counted by the frame's position in its sequence; frames without annotation only
    leave their state.

    The model is put into evaluation mode.

    Args:
        model: with the classes of ``dataset``.
        dataset: the split.
        normalisation: the backbone's.
        sequence_length: frames after which a network starts anew: every sequence of so many consecutive frames is
            run (they overlap, so a frame counts once at each position). None: whole runs, a frame counts once.
        trimap_width: of the band of tIoU in pixels; None leaves tIoU out.
        on_frame: called with the frames done and their number.

    Raises:
        InputError: a frame or a label map cannot be read; a run too short for a sequence, or, with a dynamic cell, of
            a single frame; no sequence.
    """
    model.eval()
    if sequence_length is None and isinstance(model, VideoSegmenter):
        # Its errors: of runs that have no second frame the cell would never see one.
        dataset.sequences(2)
    sequences = dataset.runs if sequence_length is None else dataset.sequences(sequence_length)
    evaluation = SegmentationEvaluation(len(dataset.classes), trimap_width)
    frames = FrameByFrame(model, normalisation)
    done, total = 0, sum(map(len, sequences))
    for sequence in sequences:
        frames.restart()
        for position, index in enumerate(sequence):
            sample = dataset[index]
            labels = frames.labels(sample.image)
            if sample.semantic is not None:
                evaluation.add(labels, sample.semantic, position)
            done += 1
            if on_frame is not None:
                on_frame(done, total)
    return evaluation
