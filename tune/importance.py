"""How much of a figure's variance over the trials each setting explains: fANOVA, as Optuna has it."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tune.knobs import SEED, axis, knobs
from tune.trial import Trial

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

__all__ = ["LEAST", "importance"]

LEAST = 6
"""Trials below which nothing is said."""


def importance(trials: Sequence[Trial], figure: str) -> dict[str, float]:
    """Setting -> its share of the explained variance, largest first; together 1.

    Optuna's functional ANOVA (Hutter et al., ICML 2014): the variance of a random forest's prediction over the space,
    taken apart; what is shown is each setting's own part, without interactions. The seed is one of them: its share is
    what chance alone explains.

    Args:
        trials: Those with a result.
        figure: Figure that all of them have.

    Returns:
        Empty if there are fewer than `LEAST` trials, or if nothing varies.
    """
    import optuna

    values = [trial.figures[figure] for trial in trials]
    keys = [*knobs(trials), *([SEED] if len({t.sample.get(SEED) for t in trials}) > 1 else [])]
    if len(trials) < LEAST or not keys or max(values) == min(values):
        return {}
    axes = [axis(key, trials) for key in keys]
    # Words and seeds by their places: as categories, each a column of its own, they would take time and memory that
    # double with each of them.
    kinds: dict[str, BaseDistribution] = {
        x.key: optuna.distributions.FloatDistribution(min(x.positions), max(x.positions)) for x in axes
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        level = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            study = optuna.create_study()
            for i, value in enumerate(values):
                params = {x.key: x.positions[i] for x in axes}
                study.add_trial(optuna.trial.create_trial(params=params, distributions=kinds, value=value))
            evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=32, seed=0)
            found = optuna.importance.get_param_importances(study, evaluator=evaluator)
        finally:
            optuna.logging.set_verbosity(level)
    return {key: float(share) for key, share in found.items()}
