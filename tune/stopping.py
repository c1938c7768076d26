"""Who stops trials early, as Ray Tune has them; what trials came to in an earlier process is told to them again."""

import math
from dataclasses import dataclass

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from tune.folder import Folder
from tune.objective import Objective
from tune.sweep import Scheduler

__all__ = ["remembering", "stopper"]


@dataclass(frozen=True)
class _Before:
    """A trial of an earlier process, as far as schedulers look at one.

    Attributes:
        trial_id: Its name.
    """

    trial_id: str


def stopper(scheduler: Scheduler, objective: Objective) -> TrialScheduler:
    """The scheduler, without any memory.

    Args:
        scheduler: What was asked for.
        objective: What trials are compared by.
    """
    if scheduler.name == "asha":
        return ASHAScheduler(
            time_attr=scheduler.on,
            metric=objective.figure,
            mode=objective.direction,
            grace_period=scheduler.grace,  # type: ignore[arg-type]  # any number will do
            reduction_factor=scheduler.reduction,
            # As many rungs as asked for; who comes to the last one is not stopped there.
            max_t=scheduler.grace * scheduler.reduction ** (scheduler.rungs - 0.5),
            stop_last_trials=False,
        )
    if scheduler.name == "median":
        return MedianStoppingRule(
            time_attr=scheduler.on,
            metric=objective.figure,
            mode=objective.direction,
            grace_period=scheduler.grace,
            min_samples_required=scheduler.least,
            min_time_slice=math.inf,  # type: ignore[arg-type]  # never pauses a trial for another
        )
    return FIFOScheduler()


def remembering(scheduler: TrialScheduler, folder: Folder) -> TrialScheduler:
    """The scheduler, which has been told of all trials that are over."""
    over = {trial.name: trial for trial in folder.trials() if trial.over}
    known = {name: _Before(name) for name in over}
    for stand_in in known.values():
        scheduler.on_trial_add(None, stand_in)  # type: ignore[arg-type]
    for name, figures in folder.progress():
        if name in known:
            scheduler.on_trial_result(None, known[name], figures)  # type: ignore[arg-type]
    for name, trial in over.items():
        scheduler.on_trial_complete(None, known[name], dict(trial.figures))  # type: ignore[arg-type]
    return scheduler
