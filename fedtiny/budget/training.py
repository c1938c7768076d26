"""What training takes of a device's memory, before the run: modelled."""

from collections.abc import Callable
from dataclasses import replace

from fedtiny import seeds
from fedtiny.config.schema import RunConfig
from fedtiny.methods.phases import phase
from fedtiny.server.effort import Effort
from fedtiny.sparse.cost import activation_bytes
from fedtiny.sparse.network import Network

__all__ = ["needed_bytes"]


def needed_bytes(config: RunConfig, network: Network) -> Callable[[int], int]:
    """Batch -> bytes that training needs on a device in the costliest round; the mask is not chosen yet: a sketch.

    Raises:
        ValueError: The method cannot prune the network this far.
    """
    state = config.method.sketch(network, seeds.stream(config.seed, "method"))
    phases = config.phases
    now = (phase(phases, r) for r in range(config.rounds))
    orders = (x.method.order(network, replace(state, round=r), x.training) for r, x in enumerate(now))
    unlike = {str((order.probes, order.adjust, order.training)): order for order in orders}.values()
    rest = max(Effort.of(network, order).memory_bytes for order in unlike)
    density = max(1.0 if order.training is None else order.training.activation_density for order in unlike)
    return lambda batch: rest + activation_bytes(network, batch, density)
