"""Population-based training (Jaderberg et al., 2017): who goes on from whom, and with which settings.

Members train side by side. At the end of each generation the weakest take over the run of one of the strongest,
weights and mask and all, and go on with other settings: so settings become schedules. Each setting is either moved a
bit (a number by a fifth, a listed value to the next in its list) or, now and then, drawn anew.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fedtiny.config.load import override
from fedtiny.config.schema import RunConfig
from fedtiny.seeds import stream
from tune.space import Dimension, Sample, drawn, looked_up, picked, taken
from tune.sweep import Sweep

__all__ = ["Fork", "Generation", "bred", "forked", "moved"]


@dataclass(frozen=True, slots=True)
class Fork:
    """A member that goes on from another one's run.

    Attributes:
        trial: The member.
        parent: The other one.
        sample: Its settings from there on.
    """

    trial: str
    parent: str
    sample: Sample


@dataclass(frozen=True, slots=True)
class Generation:
    """What became of a population after some rounds.

    Attributes:
        round: Rounds that all of them had made.
        scores: Member -> the first objective's figure; without those that failed.
        forks: Who goes on from whom.
    """

    round: int
    scores: Mapping[str, float]
    forks: tuple[Fork, ...]


def bred(
    sweep: Sweep, base: RunConfig, samples: Mapping[str, Sample], scores: Mapping[str, float], made: int
) -> Generation:
    """The generation that follows: chance depends on the seed, the round and the member's name alone.

    Args:
        sweep: The sweep, whose first objective members are compared by.
        base: The run that they are variations of.
        samples: Member -> its settings so far.
        scores: Member -> the objective's figure; of two that are equal, the first by name counts as the better. Whoever
            has none has failed, and is among the weakest however many there are.
        made: Rounds that they have made.
    """
    ranked = sorted(scores, key=lambda name: (-sweep.objectives[0].worth(scores[name]), name))
    failed = sorted(set(samples) - set(scores))
    count = max(1, int(sweep.population.share * len(samples)))
    strong = ranked[:count]
    weak = [*ranked, *failed][-max(count, len(failed)) :]
    forks = []
    for name in sorted(set(weak) - set(strong)) if strong else []:
        rng = stream(sweep.seed, "population", made, name)
        parent = strong[int(rng.integers(len(strong)))]
        forks.append(Fork(name, parent, _explored(sweep, base, samples[parent], rng)))
    return Generation(made, dict(scores), tuple(forks))


def _explored(sweep: Sweep, base: RunConfig, sample: Sample, rng: np.random.Generator) -> Sample:
    def pick(key: str, dimension: Dimension) -> object:
        value = taken(sample, key)
        if rng.random() < sweep.population.anew or not value:
            return picked(rng, dimension)
        return moved(rng, dimension, value[0])

    return drawn(sweep.space, base, pick)


def moved(rng: np.random.Generator, dimension: Dimension, value: object) -> object:
    """A value close to another one, not the same if it can be helped: a neighbour in the list, or 0.8 or 1.2 times."""
    up = bool(rng.random() < 0.5)
    if dimension.listed:
        values = [list(x) if isinstance(x, tuple) else x for x in dimension.values]
        place, step = values.index(value), 1 if up else -1
        near = place + step if 0 <= place + step < len(values) else place - step
        return values[near if 0 <= near < len(values) else place]
    low, high = dimension.ends
    assert isinstance(value, int | float)
    factors = (1.2, 0.8) if up else (0.8, 1.2)
    found: list[float] = [value * x for x in factors]
    if dimension.kind == "randint":
        found = [math.ceil(x) if x > value else math.floor(x) for x in found]
    within = [min(max(x, low), high) for x in found]
    chosen = next((x for x in within if x != value), value)
    return int(chosen) if dimension.kind == "randint" else float(chosen)


def forked(base: RunConfig, parent: RunConfig, before: Sample, name: str, sample: Sample, made: int) -> RunConfig:
    """The run that is the parent's so far, and has other settings from here on.

    Args:
        base: The run that they are variations of: it has the settings that a sample leaves out.
        parent: The parent's run.
        before: The parent's settings.
        name: What the run is called.
        sample: The settings from here on.
        made: Rounds that the parent has made.
    """
    tree = base.model_dump(mode="json")

    def settings(told: Sample) -> Sample:
        return {key: told[key] if key in told else looked_up(tree, key) for key in {**before, **sample}}

    old, new = settings(before), settings(sample)
    told = {f"from_round.{made}.{key}": value for key, value in new.items() if old[key] != value}
    return override(parent, {**told, "name": name})
