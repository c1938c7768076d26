"""A configuration's density and width, from its budget."""

import copy
from collections.abc import Callable
from functools import cache

from fedtiny import seeds
from fedtiny.budget.choose import Choice, Needs, NoneFits, choose
from fedtiny.budget.training import needed_bytes
from fedtiny.config.budget import Budget, Limit
from fedtiny.config.load import ConfigError
from fedtiny.config.schema import RunConfig
from fedtiny.export.c.footprint import footprint
from fedtiny.export.graph import Graph
from fedtiny.export.trace import trace
from fedtiny.methods.base import ServerState
from fedtiny.models.zoo import AnyModel
from fedtiny.sparse.cost import forward_flops
from fedtiny.sparse.engine.choose import Engine
from fedtiny.sparse.engine.resident import Resident
from fedtiny.sparse.network import Network

__all__ = ["explained", "fit"]


def fit(config: RunConfig, budget: Budget, build: Callable[[AnyModel], Network]) -> tuple[RunConfig, Choice]:
    """The configuration with the density, and the width, that the budget chooses; and why.

    What a network will take is told by one of that width and density whose mask is the method's sketch: which weights
    are kept is not known yet, how many a layer is, or nearly.

    Args:
        config: The configuration.
        budget: Its budget, not settled yet.
        build: Builds a model, for this run's pictures and classes.

    Raises:
        ConfigError: The method has no density, or no network is small enough: names the least budget that will do.
    """
    if "density" not in type(config.method).model_fields:
        raise ConfigError(
            [f"budget: chooses a density, and {config.method.name} has none; name another method.name, or budget=null"]
        )
    built, limits = cache(build), budget.limits

    def sized(width: int, density: float) -> RunConfig:
        method = config.method.model_copy(update={"density": density})
        return config.model_copy(update={"model": config.model.model_copy(update={"width": width}), "method": method})

    def needs(width: int, density: float) -> Needs:
        small = sized(width, density)
        network = built(small.method.network(small.model, built))
        state = small.method.sketch(network, seeds.stream(config.seed, "method"))
        took: dict[Limit, float] = {}
        if "flash_bytes" in limits or "ram_bytes" in limits:
            program = footprint(_sketched(network, state), budget.values)
            took |= {"flash_bytes": program.flash, "ram_bytes": program.ram}
        if "flops" in limits:
            took["flops"] = forward_flops(network, state.mask)
        if "train_ram_bytes" in limits:
            took["train_ram_bytes"] = needed_bytes(small, network)(config.training.batch)
        return took

    try:
        choice = choose(needs, limits, config.model.width, budget.least_density)
    except NoneFits as error:
        raise ConfigError(
            f"budget.{name}: must be at least {error.needs[name]:,.0f}, what {config.model.name} takes at width "
            f"{error.width} and density {error.density:g}, got {limit:,.0f}"
            for name, limit in limits.items()
            if error.needs[name] > limit
        ) from error
    settled = budget.model_copy(update={"settled": True})
    return sized(choice.width, choice.density).model_copy(update={"budget": settled}), choice


def _sketched(network: Network, state: ServerState) -> Graph:
    """The network's graph, pruned, with the weights of the sketch; dead channels are left in it."""
    resident = Resident(copy.deepcopy(network.module), Engine(name="dense"))
    return trace(resident.holding(state.weights, state.mask), network.input_shape, (0.0,), (1.0,))


def explained(config: RunConfig, choice: Choice) -> list[str]:
    """What was chosen and what binds, a line each."""
    assert config.budget is not None
    limits = config.budget.limits
    told = ", ".join(
        f"{name} {choice.needs[name]:,.0f} of {limit:,.0f}{' (binds)' if name in choice.binding else ''}"
        for name, limit in limits.items()
    )
    lines = [f"budget: density {choice.density:g} of {config.model.name} at width {choice.width}: {told}"]
    if choice.narrowed:
        needed = ", ".join(f"{name} {need:,.0f}" for name, need in choice.narrowed.items())
        lines.append(f"budget: width {choice.width + 1} would take {needed} even at its least density")
    if not choice.binding:
        lines.append("budget: nothing binds: the network fits as it is, unpruned")
    return lines
