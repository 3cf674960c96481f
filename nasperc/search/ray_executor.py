"""The search on Ray Tune: one long-lived trial a slot, and the controller service as a named actor.

A trial per candidate would cost 45 to 140 ms, a folder each, and driver memory that grows. A slot's
``step()`` asks the service, trains a candidate and tells the result (several where they are short); imports,
open cache and CUDA context stay in its process.
Of the search, this module and :mod:`nasperc.search.ray_start` alone import Ray.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from controllers.base import Candidate, Result
from controllers.service.answers import Answer, RunStatus
from controllers.service.journal import Event
from nasperc.errors import InputError
from nasperc.recipe.root import Recipe
from nasperc.search.executor import Executor
from nasperc.search.progress import SearchProgress
from nasperc.search.ray_start import NAMESPACE, StartedRay, gpus_per_worker, ray, start_ray
from nasperc.search.run_folder import RunFolder
from nasperc.search.service_actor import ServiceActor
from nasperc.search.worker import SlotWorker
from nasperc.whole_files import refuse_link
from proxy_tasks.base import Findings
from proxy_tasks.failure import describe

# After ray_start, which sets what Ray reads when it is imported.
# isort: split
from ray import tune
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.util.metrics import Gauge
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

POLL_S = 0.5
# Slots end by themselves once the run has ended; one that does not is ended with Ray.
GRACE_S = 20.0
CLOSE_S = 10.0
# Ray Tune's driver holds on to the result of every step for as long as the slot lives (ray.air's RayActorManager never
# forgets a task's ObjectRef): candidates that are shorter than this share a step, and so do the calls of a slot that
# waits.
STEP_S = 5.0


class RemoteService:
    """The service as a worker sees it: blocking calls of the actor."""

    def __init__(self, name: str) -> None:
        self._actor = ray.get_actor(name, namespace=NAMESPACE)

    def ask(self, slot: int) -> Answer:
        return cast(Answer, ray.get(self._actor.ask.remote(slot)))

    def tell(self, slot: int, id: int, result: Result) -> None:
        ray.get(self._actor.tell.remote(slot, id, result))

    def report_setup_failure(self, slot: int, error: str) -> None:
        ray.get(self._actor.report_setup_failure.remote(slot, error))

    def status(self) -> RunStatus:
        return cast(RunStatus, ray.get(self._actor.status.remote()))


class Slot(tune.Trainable):
    """One slot as a Ray Tune trial that lasts as long as the search."""

    # tune.with_parameters adds all but the first.
    def setup(  # type: ignore[override]
        self,
        config: dict[str, Any],
        recipe: Mapping[str, Any],
        folder: str,
        service: str,
        known: Mapping[str, Any] | None = None,
    ) -> None:
        self._service = RemoteService(service)
        self._worker = SlotWorker(recipe, Path(folder), config["slot"], self._end_hung, known)
        self._ready = False

    def step(self) -> dict[str, Any]:
        # Not in setup(): Tune gives up a trial whose actor dies before its first step, despite max_failures.
        if not self._ready:
            try:
                self._worker.setup()
            except Exception as error:
                self._service.report_setup_failure(self._worker.slot, describe(error))
                if self._service.status().finished:
                    return {"done": True}
                # A new process may do better: a CUDA error stays in its process for good.
                raise
            self._ready = True
        until = time.monotonic() + STEP_S
        while self._worker.step(self._service):
            if time.monotonic() >= until:
                return {"done": False}
        return {"done": True}

    def _end_hung(self, candidate: Candidate, result: Result) -> None:
        # A thread of a hung process is never given back: the process ends, Ray Tune starts the slot again.
        self._service.tell(self._worker.slot, candidate.id, result)
        os._exit(1)


class _SlotDeaths(tune.Callback):
    """Tells the service of slots whose process died."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor
        self.count = 0

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.count += 1
        # The service is on this machine, whose monotonic clock is one for all processes.
        self._actor.slot_died.remote(trial.config["slot"], time.monotonic())


class _OnRequest(tune.Stopper):
    """Stops every slot when told to."""

    def __init__(self) -> None:
        self.requested = threading.Event()

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.requested.is_set()

    def __getstate__(self) -> dict[str, Any]:
        # Tune keeps a copy of its settings on the disk; an Event cannot be pickled.
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.requested = threading.Event()


class RayExecutor(Executor):
    """``workers`` slots on a local Ray, or on the cluster that ``ray_address`` names.

    A Ray that runs already in this process is used and left running. On a cluster of several nodes the run
    folder must lie on a file system that all of them share.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        session: str,
        findings: Findings | None = None,
        begin: bool = False,
    ) -> None:
        self._recipe, self._folder, self._session = recipe, RunFolder(folder.resolve()), session
        self._findings, self._begin = findings or Findings(), begin
        self._name = f"controller-{folder.name}-{session[:8]}"
        self._started_ray = False
        self._actor: Any = None
        self._thread: threading.Thread | None = None
        self._deaths: _SlotDeaths | None = None
        self._stopper = _OnRequest()
        self._tune_error: BaseException | None = None
        self._ended_at: float | None = None
        self._gauges: dict[str, Gauge] = {}
        self._ray: StartedRay | None = None

    def start(self) -> None:
        if not ray.is_initialized():
            self._ray = start_ray(self._recipe.search)
            self._started_ray = True
        gpus = gpus_per_worker(self._recipe.search, ray.cluster_resources().get("GPU", 0.0))
        actor_class = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(ServiceActor)
        node = NodeAffinitySchedulingStrategy(node_id=ray.get_runtime_context().get_node_id(), soft=False)
        self._actor = actor_class.options(
            name=self._name, namespace=NAMESPACE, scheduling_strategy=node
        ).remote(self._recipe.to_dict(), str(self._folder.path), self._session, self._findings, self._begin)
        self._deaths = _SlotDeaths(self._actor)
        self._thread = threading.Thread(
            target=self._run_slots, args=(self._deaths, gpus), name="ray-tune", daemon=True
        )
        self._thread.start()
        # After the slots, so that their processes load their imports beside the service's.
        self._call("opened")

    def advance(self) -> bool:
        assert self._thread is not None, "start() comes first"
        self._thread.join(POLL_S)
        status = self.status()
        if not self._thread.is_alive():
            if not status.finished:
                raise InputError(
                    "the slots must live as long as the search",
                    value=describe(self._tune_error) if self._tune_error else "no slot",
                    where="Ray Tune",
                    repair=f"Resume: nasperc search --resume {self._folder.path}",
                )
            return False
        if status.finished and self._ended_at is None:
            self._ended_at = time.monotonic()
        gone = self._ended_at is not None and time.monotonic() - self._ended_at > GRACE_S
        return not (gone or (status.finished and status.error is not None))

    def events_since(self, index: int) -> list[Event]:
        events: list[Event] = self._call("events_since", index)
        return events

    def status(self) -> RunStatus:
        status: RunStatus = self._call("status")
        return status

    def select(self, stage: str, hash: str, scores: Mapping[str, float], seconds: float) -> None:
        self._call("select", stage, hash, dict(scores), seconds)

    def close(self) -> None:
        actor, self._actor = self._actor, None
        self._stopper.requested.set()
        failure: Exception | None = None
        if actor is not None:
            try:
                ray.get(actor.close.remote(), timeout=CLOSE_S)
            except RayTaskError as error:
                failure = error.cause
            except RayError:
                # Nothing is lost: acknowledged events are on the disk, and the lock goes with the process.
                logging.getLogger(__name__).debug("the service was gone already", exc_info=True)
            if self._thread is not None and not self._started_ray:
                self._thread.join(CLOSE_S)
            ray.kill(actor)
        if self._started_ray:
            self._started_ray = False
            ray.shutdown()
        if self._thread is not None:
            self._thread.join(CLOSE_S)
        shutil.rmtree(self._folder.ray, ignore_errors=True)
        if failure is not None:
            raise failure

    def notes(self) -> list[str]:
        if self._ray is None:
            return []
        notes = list(self._ray.notes)
        if self._ray.dashboard is None:
            return notes
        note = f"Ray dashboard: http://{self._ray.dashboard}"
        if os.environ.get("RAY_AUTH_MODE", "").lower() == "token":
            note += "  (it asks for a token: ray get-auth-token prints it)"
        return [*notes, note]

    def publish(self, progress: SearchProgress) -> None:
        values = {
            "best_reward": progress.best,
            "last_reward": progress.last_reward,
            "moving_average_reward": progress.moving_average,
            "completed": progress.completed,
            "stopped": progress.stopped,
            "failed": progress.failed,
            "rejected": progress.rejected,
            "replayed": progress.replayed,
            "slot_restarts": self._deaths.count if self._deaths else 0,
        }
        for name, value in values.items():
            if value is None:
                continue
            if name not in self._gauges:
                text = name.replace("_", " ")
                self._gauges[name] = Gauge(f"nasperc_search_{name}", text, tag_keys=("run",))
            self._gauges[name].set(float(value), tags={"run": self._folder.path.name})

    def _run_slots(self, deaths: _SlotDeaths, gpus: float) -> None:
        search = self._recipe.search
        try:
            refuse_link(self._folder.ray)
            shutil.rmtree(self._folder.ray, ignore_errors=True)
            # What stands in param_space is in every result, too.
            slot = tune.with_parameters(
                Slot,
                recipe=self._recipe.to_dict(),
                folder=str(self._folder.path),
                service=self._name,
                known=self._findings.known,
            )
            tune.Tuner(
                tune.with_resources(slot, {"cpu": 1, "gpu": gpus}),
                param_space={"slot": tune.grid_search(list(range(search.workers)))},
                run_config=tune.RunConfig(
                    name="ray",
                    storage_path=str(self._folder.path),
                    verbose=0,
                    failure_config=tune.FailureConfig(max_failures=-1),
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                    callbacks=[deaths],
                    stop=self._stopper,
                ),
            ).fit()
        except Exception as error:
            self._tune_error = error

    def _call(self, method: str, *arguments: object) -> Any:
        try:
            return ray.get(getattr(self._actor, method).remote(*arguments))
        except RayTaskError as error:
            raise error.cause from error
        except RayActorError as error:
            raise InputError(
                "the controller service must run",
                value=describe(error),
                where="Ray",
                repair=f"Resume: nasperc search --resume {self._folder.path}",
            ) from error
