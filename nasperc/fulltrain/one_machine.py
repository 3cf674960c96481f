"""How the workers of one machine find one another: by a file, and on the loopback interface alone.

By itself Ray Train has torch open a store of keys on a port of all interfaces, without a password, and gloo listens on
the machine's outer address.
"""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasperc.search.ray_start import ray

# isort: split
# After ray_start, which sets what Ray reads when it is imported.
from ray.train.backend import BackendConfig
from ray.train.torch.config import TorchConfig, _setup_torch_process_group, _TorchBackend


@dataclass
class OneMachine(TorchConfig):
    """Ray Train's settings for torch, for workers that all run on this machine.

    Args:
        folder: of this user alone; it may go once the workers have ended.
    """

    folder: str = ""

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        return _ByFile


class _ByFile(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        assert isinstance(backend_config, OneMachine)
        # Workers that start again, after one of them has died, must not read what the first ones wrote.
        store = Path(backend_config.folder) / uuid.uuid4().hex
        worker_group.execute(_stay_on_loopback)
        joining = [
            worker_group.execute_single_async(
                rank,
                _setup_torch_process_group,
                backend=backend_config.backend,
                world_rank=rank,
                world_size=len(worker_group),
                init_method=f"file://{store}",
                timeout_s=backend_config.timeout_s,
            )
            for rank in range(len(worker_group))
        ]
        ray.get(joining)


def _stay_on_loopback() -> None:
    """In a worker, before it joins: gloo and NCCL listen on the interface of these variables."""
    names = {name for _, name in socket.if_nameindex()}
    # Linux and macOS; elsewhere they choose by themselves.
    for name in ("lo", "lo0"):
        if name in names:
            os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = name
