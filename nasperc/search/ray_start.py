"""Ray itself: what it reads when it is imported, and how a search starts or joins one.

With :mod:`nasperc.search.ray_executor` the only module of the search that imports Ray.
"""

from __future__ import annotations

import ipaddress
import logging
import os
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

from nasperc.errors import InputError
from nasperc.search.search_recipe import SearchRecipe
from proxy_tasks.failure import describe

NAMESPACE = "nasperc"
_OBJECT_STORE_BYTES = 128 * 2**20


def start_ray(
    search: SearchRecipe, repair: str = "Use --executor local to search without Ray."
) -> str | None:
    """Start a local Ray, or connect to the cluster that ``ray_address`` or ``RAY_ADDRESS`` names.

    A local Ray asks for its token everywhere (``RAY_AUTH_MODE=disabled`` ends that), and its dashboard listens
    on ``dashboard_host`` alone.

    Args:
        search: workers, address and dashboard.
        repair: what the user can do where Ray does not start.

    Returns:
        Host and port of the dashboard; None without one.

    Raises:
        InputError: Ray does not start, or the cluster cannot be reached; others would reach the dashboard without
            a token.
    """
    # Workers that die are restarted and counted; Ray's tracebacks of them would fill the screen.
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    address = search.ray_address or os.environ.get("RAY_ADDRESS")
    if not address and search.dashboard:
        _check_dashboard(search.dashboard_host)
    try:
        if address:
            info = ray.init(address=address, namespace=NAMESPACE, **quiet)
        else:
            # Without "local" it would join whatever other Ray runs on this machine.
            info = ray.init(
                address="local",
                namespace=NAMESPACE,
                num_cpus=max(search.workers, os.cpu_count() or 1),
                include_dashboard=search.dashboard,
                dashboard_host=search.dashboard_host,
                object_store_memory=_OBJECT_STORE_BYTES,
                **quiet,
            )
    # A bare Exception is what Ray raises where a node does not come up in time.
    except Exception as error:
        raise InputError(
            "Ray must start",
            value=describe(error),
            where="recipe key search.ray_address",
            repair=repair,
        ) from error
    return info.dashboard_url or None


def _check_dashboard(host: str) -> None:
    """The dashboard's server takes jobs, so whoever reaches it without a token runs code here."""
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    # Ray's own rule: anything else that stands there switches the token off.
    if not loopback and os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        raise InputError(
            "a dashboard that other machines reach must ask for a token",
            value=f"RAY_AUTH_MODE={os.environ['RAY_AUTH_MODE']}",
            where=f"recipe key search.dashboard_host ({host})",
            repair="Unset RAY_AUTH_MODE, or leave the dashboard at 127.0.0.1.",
        )


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
