"""A network of any task as files of one format, checked against torch right after they were written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from nasperc.tasks.caller import file_values, to_metadata
from nasperc.tasks.exported import Agreement, Exported, Graph, Run
from nasperc.whole_files import writing_together


class NetworkFormat(ABC):
    """What a format does with a graph; it knows no task."""

    # Of free sides of images.
    smallest: ClassVar[int]
    # Sizes at which files for any size are compared with torch, (H, W).
    check_sizes: ClassVar[tuple[tuple[int, int], ...]]

    @abstractmethod
    def write(self, exported: Exported, graph: Graph, metadata: dict[str, str], path: Path) -> None:
        """Write one graph.

        Raises:
            InputError: the network cannot be traced; packages are missing.
        """

    @abstractmethod
    def open(self, graph: Graph, path: Path) -> Run:
        """The file as a function of the graph's arguments."""

    def export(self, exported: Exported, path: Path) -> Agreement:
        """Write all graphs beside their places, run them, and put them into place if they agree with torch.

        Args:
            exported: the network.
            path: of the file, or what names the files.

        Raises:
            InputError: as :meth:`write`; the files differ from torch (none is written then).
        """
        graphs = exported.graphs(self.smallest)
        paths = [graph.path(path) for graph in graphs]
        with writing_together(paths) as parts:
            for graph, part in zip(graphs, parts, strict=True):
                self.write(exported, graph, to_metadata(file_values(exported, graph)), part)
            runs = [self.open(graph, part) for graph, part in zip(graphs, parts, strict=True)]
            sizes = [exported.size] if exported.size is not None else self.check_sizes
            agreement = exported.compare(graphs, runs, paths, sizes)
            agreement.check()
        return agreement
