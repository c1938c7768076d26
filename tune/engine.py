"""Makes the trials of a sweep, with Ray Tune."""

import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

# Before Tune's import, which reads some of them. It keeps no logs of its own beside the runs' and saves nothing of the
# experiment: a sweep goes on from its folder. Trials stay where the sweep was started, and Ctrl-C ends it. Some
# objectives are known at a trial's end alone.
os.environ.update(
    RAY_AIR_NEW_OUTPUT="0",
    RAY_CHDIR_TO_TRIAL_DIR="0",
    TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1",
    TUNE_DISABLE_SIGINT_HANDLER="1",
    TUNE_DISABLE_STRICT_METRIC_CHECKING="1",
    TUNE_GLOBAL_CHECKPOINT_S="1000000000",
    TUNE_PRINT_ALL_TRIAL_ERRORS="0",
    TUNE_WARN_THRESHOLD_S="1000000",
)

from fedtiny.config.load import ConfigError
from fedtiny.config.schema import RunConfig
from fedtiny.fleets import RayActors
from fedtiny.fleets.boot import connected
from tune.folder import Folder
from tune.request import Request, cohorts
from tune.reservation import Reservation, Room

if TYPE_CHECKING:
    from ray.tune import PlacementGroupFactory

    from tune.watch import Watch

__all__ = ["lacking", "make", "reserving"]


def lacking(config: RunConfig) -> str:
    """What this machine lacks for even one trial, before Ray starts; empty if nothing, or where a cluster is joined."""
    room = Room.here()
    return "" if _address(config) else _reservation(config, room).lacking(room)


def make(folder: Folder, request: Request, left: Sequence[str], watch: "Watch") -> None:
    """Makes the trials that are left, and those that Optuna thinks of.

    Args:
        folder: The sweep's.
        request: What was asked.
        left: Trials that are written down already.
        watch: Is told what becomes of them.

    Raises:
        ConfigError: Ray cannot start, or a trial is larger than the cluster; says what is short.
    """
    import ray
    from ray import tune

    from tune.breeding import Bred
    from tune.search import Listed, Thought
    from tune.stopping import remembering, stopper
    from tune.trainable import RunTrainable, name_of

    logging.getLogger("ray").setLevel(logging.ERROR)
    sweep, base, address = request.sweep, request.base, _address(request.base)
    scheduler = remembering(stopper(sweep.scheduler, sweep.objectives[0]), folder)
    try:
        with connected(address, None):
            nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            room = Room(nodes) if address else Room.here(nodes)
            if short := _reservation(base, room).lacking(room):
                raise ConfigError([short])
            # Where trials differ in their clients, those with the fewest count: others wait for their reservation.
            most = max(Reservation.of(base.fleet, cohort, room).at_once(room) for cohort in cohorts(sweep, base))
            at_once = min(most, sweep.trials_at_once or most)
            # Processes take seconds to start: Tune would start the next one when the one before is there.
            os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(at_once)
            searcher: Listed
            if sweep.search == "population":
                searcher = Bred(folder, request, at_once, watch.bred)
            else:
                searcher = (Thought if sweep.search == "optuna" else Listed)(folder, request, left, at_once)
            tuner = tune.Tuner(
                tune.with_resources(RunTrainable, reserving(folder, room)),
                tune_config=tune.TuneConfig(
                    num_samples=-1,
                    search_alg=searcher,
                    scheduler=scheduler,
                    reuse_actors=True,
                    trial_name_creator=name_of,
                    trial_dirname_creator=name_of,
                ),
                run_config=tune.RunConfig(
                    name="tune",
                    storage_path=str(_scratch(folder)),
                    failure_config=tune.FailureConfig(max_failures=sweep.retries),
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                    callbacks=[watch],
                    verbose=0,
                ),
            )
            tuner.fit()
    except ValueError as error:
        raise ConfigError([str(error)]) from error
    finally:
        shutil.rmtree(_scratch(folder), ignore_errors=True)


def reserving(folder: Folder, room: Room) -> Callable[[Mapping[str, str]], "PlacementGroupFactory"]:
    """What Tune is to reserve for a trial that it knows by its settings: the trial's own reservation."""

    def reserved(config: Mapping[str, str]) -> "PlacementGroupFactory":
        from ray.tune import PlacementGroupFactory

        return PlacementGroupFactory(_reservation(folder.config(config["trial"]), room).bundles)

    return reserved


def _reservation(config: RunConfig, room: Room) -> Reservation:
    return Reservation.of(config.fleet, config.cohort or config.clients, room)


def _address(config: RunConfig) -> str | None:
    return config.fleet.address if isinstance(config.fleet, RayActors) else None


def _scratch(folder: Folder) -> Path:
    return folder.path.resolve() / ".tune"
