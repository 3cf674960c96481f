"""Ray itself: what it reads when it is imported, and how a search starts or joins one.

With :mod:`nasperc.search.ray_executor` the only module of the search that imports Ray.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Read by Ray when it is imported. Ray's own progress output and result files are replaced by ours.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Ray runs workers at niceness 15: beside any other load they were measured to get a tenth of a core.
os.environ.setdefault("RAY_worker_niceness", "0")
# A slot with gpus_per_worker = 0 shall not see a GPU.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
# Nor do the raylet's paragraphs about a killed worker belong on the screen: it is restarted, and counted.
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
# Snapshots of Tune's own state are of no use here: the journal is what a run resumes from.
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "3600")
os.environ.setdefault("TUNE_FORCE_TRIAL_CLEANUP_S", "5")

import ray
from ray._private import ray_constants

from nasperc.errors import InputError
from nasperc.recipe.search_section import SearchRecipe
from nasperc.search.ray_token import private_token
from proxy_tasks.failure import describe

NAMESPACE = "nasperc"
_OBJECT_STORE_BYTES = 128 * 2**20
# The longest path of a socket is 107 bytes; of these Ray's session and the socket's name take:
_SOCKET_BYTES = len("/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store")
_REACHABLE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


@dataclass(frozen=True)
class StartedRay:
    """``dashboard``: host and port, None without one; ``notes``: lines to print."""

    dashboard: str | None
    notes: tuple[str, ...]


def start_ray(
    search: SearchRecipe, repair: str = "Use --executor local to search without Ray."
) -> StartedRay:
    """Start a local Ray, or connect to the cluster that ``ray_address`` or ``RAY_ADDRESS`` names.

    A local Ray listens on the loopback address alone (its dashboard on ``dashboard_host``), asks for its token in
    most places (``RAY_AUTH_MODE=disabled`` ends that), and keeps its files where other users do not come; what
    remains open is named in docs/cluster.md.

    Args:
        search: workers, address and dashboard.
        repair: what the user can do where Ray does not start.

    Raises:
        InputError: Ray does not start, or the cluster cannot be reached; others would reach the dashboard without
            a token; the token is another user's.
    """
    # Workers that die are restarted and counted; Ray's tracebacks of them would fill the screen.
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    address = search.ray_address or os.environ.get("RAY_ADDRESS")
    if address == "local":
        address = None
    if not address and search.dashboard:
        _check_dashboard(search.dashboard_host)
    notes = private_token(make=not address)
    try:
        if address:
            info = ray.init(address=address, namespace=NAMESPACE, **quiet)
        else:
            # Without "local" it would join whatever other Ray runs on this machine.
            with _this_machine_alone():
                info = ray.init(
                    address="local",
                    namespace=NAMESPACE,
                    num_cpus=max(search.workers, os.cpu_count() or 1),
                    include_dashboard=search.dashboard,
                    dashboard_host=search.dashboard_host,
                    object_store_memory=_OBJECT_STORE_BYTES,
                    _temp_dir=_private_folder(),
                    **quiet,
                )
            if not on_one_machine():
                notes.append(
                    f"Ray listens on {ray.util.get_node_ip_address()}, which other machines may reach"
                )
    # A bare Exception is what Ray raises where a node does not come up in time.
    except Exception as error:
        raise InputError(
            "Ray must start",
            value=describe(error),
            where="recipe key search.ray_address",
            repair=repair,
        ) from error
    return StartedRay(info.dashboard_url or None, tuple(notes))


def on_one_machine() -> bool:
    """Whether Ray's node, once started, is on the loopback address, so that no other machine can have joined it."""
    return _is_loopback(ray.util.get_node_ip_address())


@contextmanager
def _this_machine_alone() -> Iterator[None]:
    """Ray's way with Windows and macOS, where it serves one machine by the loopback address, here too.

    What it starts reads the variable (and inherits it), this process read it when Ray was imported. The address of
    the node itself (``_node_ip_address``) changes what Ray tells others, not where it listens.
    """
    variable, constant = os.environ.get(_REACHABLE), ray_constants.ENABLE_RAY_CLUSTER
    os.environ[_REACHABLE], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = constant
        if variable is None:
            del os.environ[_REACHABLE]
        else:
            os.environ[_REACHABLE] = variable


def _private_folder() -> str | None:
    """A folder for Ray's logs, sockets and copies of code; None where it is to choose one.

    Ray gives its folders to everybody, to write as well, so they lie in one that only this user enters.
    """
    if os.environ.get("RAY_TMPDIR"):
        return None
    mine = Path(tempfile.gettempdir()) / f"nasperc-{os.getuid()}"
    try:
        mine.mkdir(mode=0o700)
    except FileExistsError:
        found = mine.lstat()
        if found.st_uid != os.getuid() or found.st_mode & 0o170077 != 0o040000:
            # Somebody else's, or open: not to be trusted, nor ours to change.
            mine = Path(tempfile.mkdtemp(prefix="nasperc-"))
    folder = str(mine / "ray")
    return folder if len(os.fsencode(folder)) + _SOCKET_BYTES <= 107 else None


def _check_dashboard(host: str) -> None:
    """The dashboard's server takes jobs, so whoever reaches it without a token runs code here."""
    # Ray's own rule: anything else that stands there switches the token off.
    if not _is_loopback(host) and os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        raise InputError(
            "a dashboard that other machines reach must ask for a token",
            value=f"RAY_AUTH_MODE={os.environ['RAY_AUTH_MODE']}",
            where=f"recipe key search.dashboard_host ({host})",
            repair="Unset RAY_AUTH_MODE, or leave the dashboard at 127.0.0.1.",
        )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def gpus_per_worker(search: SearchRecipe, gpus: float) -> float:
    """GPUs of one slot, of ``gpus`` in all: by the recipe; else one each, or a share where slots are more.

    Raises:
        InputError: not even one slot would fit. (Ray would wait for another GPU for ever.)
    """
    if search.gpus_per_worker is None:
        return min(1.0, gpus / search.workers)
    if search.gpus_per_worker > gpus:
        raise InputError(
            "a slot must not need more GPUs than there are",
            value=search.gpus_per_worker,
            where="recipe key search.gpus_per_worker",
            repair=f"Ray sees {gpus:g} here.",
        )
    return search.gpus_per_worker
