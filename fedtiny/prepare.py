"""A run that can start: everything that could be wrong with its configuration is looked for here."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from fedtiny import seeds
from fedtiny.config.load import ConfigError
from fedtiny.config.schema import RunConfig
from fedtiny.data.examples import Examples
from fedtiny.data.split import Shares
from fedtiny.sparse.engine.choose import Choice, choose
from fedtiny.sparse.engine.kernels import EngineUnavailable, kernels
from fedtiny.sparse.network import Network

__all__ = ["Prepared", "prepare"]


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A run that can start: everything that could be wrong with its configuration has been looked at.

    Attributes:
        config: The configuration.
        examples: The data set.
        shares: Who holds which training example.
        network: The freshly initialised network.
        choice: Which engine computes, and why. The configuration names it too: a run of it chooses the same.
    """

    config: RunConfig
    examples: Examples
    shares: Shares
    network: Network
    choice: Choice


def prepare(config: RunConfig, tell: Callable[[str], None] = lambda text: None) -> Prepared:
    """Loads the data, deals it, builds the network, checks that the method can prune it, and chooses the engine.

    Args:
        config: The configuration.
        tell: Is told, in a line, of what takes seconds.

    Raises:
        ConfigError: Something does not fit; all of it at once.
    """
    problems = []
    if config.cohort is not None and config.cohort > config.clients:
        problems.append(f"cohort: must be at most clients ({config.clients}), got {config.cohort}")
    try:
        examples = config.data.load()
    except ValueError as error:
        raise ConfigError([*problems, f"data: {error}"]) from error
    channels, *_ = examples.shape
    for key, values in (("mean", config.data.mean), ("std", config.data.std)):
        if len(values) not in (1, channels):
            problems.append(f"data.{key}: must have 1 value or one a channel ({channels}), got {len(values)}")
    shares = None
    try:
        shares = config.split.deal(examples.labels, config.partition, config.clients, config.seed)
        if config.pretraining.epochs and len(shares.public) < 2:
            problems.append(
                f"pretraining.epochs: must be 0 where the server holds fewer than 2 public examples "
                f"(split.public), got {config.pretraining.epochs}"
            )
    except ValueError as error:
        problems.append(f"clients: {error}")
    module = config.model.build(channels, len(examples.classes), seeds.number(config.seed, "weights"))
    network = Network.of(module, examples.shape, config.prunable)
    try:
        config.method.check(network, seeds.stream(config.seed, "method"))
    except ValueError as error:
        problems.append(f"method: {error}")
    unknown = sorted(set(config.engine.dense_above) - {layer.name for layer in network.layers})
    if unknown:
        problems.append(f"engine.dense_above: must name weights of the network, got {', '.join(unknown)}")
    if config.engine.name == "sparse":
        try:
            kernels(torch.float32)
        except EngineUnavailable as error:
            problems.append(f"engine: {error}; or set engine=dense")
    if problems or shares is None:
        raise ConfigError(problems)
    for remark in config.method.remarks(config.rounds):
        tell(f"note: {remark}")
    choice = choose(config.engine, network, config.training.batch, config.method.target, tell)
    return Prepared(config.model_copy(update={"engine": choice.engine}), examples, shares, network, choice)
