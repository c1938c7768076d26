"""A run that can start: everything that could be wrong with its configuration is looked for here."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from fedtiny import seeds
from fedtiny.budget.fit import explained, fit
from fedtiny.budget.training import needed_bytes
from fedtiny.client.world import World
from fedtiny.config.load import ConfigError
from fedtiny.config.schema import RunConfig
from fedtiny.data.examples import Examples
from fedtiny.data.split import Shares
from fedtiny.methods.average import exactness_problems
from fedtiny.methods.phases import Phase
from fedtiny.models.zoo import AnyModel
from fedtiny.payload.messages import SERVER
from fedtiny.payload.packing import Layout
from fedtiny.server.cohort import Population
from fedtiny.server.devices import memory_problems
from fedtiny.sparse.engine.choose import CPU_ONLY, Choice, choose, unable
from fedtiny.sparse.engine.kernels import EngineUnavailable, kernels
from fedtiny.sparse.network import Network

__all__ = ["Prepared", "prepare", "within_budget"]


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A run that can start: everything that could be wrong with its configuration has been looked at.

    Attributes:
        config: The configuration.
        examples: The data set.
        shares: Who holds which training example.
        model: The network's architecture: the configuration's, unless the method has one of its own.
        network: The freshly initialised network.
        reference: The network that the configuration names; figures "of dense" are shares of it.
        choice: Which engine computes, and why. The configuration names it too: a run of it chooses the same.
    """

    config: RunConfig
    examples: Examples
    shares: Shares
    model: AnyModel
    network: Network
    reference: Network
    choice: Choice

    @property
    def layout(self) -> Layout:
        """Names and shapes of the network's weights."""
        _, height, width = self.network.input_shape
        shapes = {name: x.shape for name, x in self.network.weights.items()}
        return Layout(shapes, frozenset(self.network.prunable), height * width)

    @property
    def world(self) -> World:
        """All that devices share."""
        channels, *_ = self.examples.shape
        return World(
            seed=self.config.seed,
            model=self.model,
            channels=channels,
            classes=len(self.examples.classes),
            layout=self.layout,
            data=self.config.data,
            engine=self.config.engine,
            # A plain array, not a memory map: Ray then shares it without a copy a process.
            images=np.asarray(self.examples.images),
            labels=self.examples.labels,
            shares={SERVER: self.shares.public, **dict(enumerate(self.shares.clients))},
        )

    @property
    def population(self) -> Population | None:
        """The devices that clients are; None if the configuration describes none."""
        devices, clients, seed = self.config.devices, self.config.clients, self.config.seed
        if devices is None:
            return None
        kinds = devices.assign(clients, seeds.stream(seed, "devices"))
        return Population(devices, kinds, {k: len(share) for k, share in enumerate(self.shares.clients)}, seed)


def within_budget(config: RunConfig, examples: Examples, tell: Callable[[str], None]) -> RunConfig:
    """The configuration with the density and width that its budget chooses; itself if it has none that is left to do.

    Args:
        config: The configuration.
        examples: Its data set.
        tell: Is told, a line each, what was chosen and why.

    Raises:
        ConfigError: Nothing fits.
    """
    if config.budget is None or config.budget.settled:
        return config
    settled, choice = fit(config, config.budget, partial(_build, config, examples))
    for line in explained(settled, choice):
        tell(line)
    return settled


def _build(config: RunConfig, examples: Examples, model: AnyModel) -> Network:
    channels, *_ = examples.shape
    module = model.build(channels, len(examples.classes), seeds.number(config.seed, "weights"))
    return Network.of(module, examples.shape, config.prunable)


def _checked(phase: Phase) -> tuple[str, ...]:
    """What a user should know of a phase's local training.

    Raises:
        ValueError: Clients cannot train so; says why, and from which round on.
    """
    try:
        return phase.method.check_training(phase.training)
    except ValueError as error:
        raise ValueError(f"{error} (from round {phase.start} on)" if phase.start else str(error)) from None


def _dealing(config: RunConfig) -> tuple[object, ...]:
    """What decides who gets which example."""
    return config.data, config.split, config.partition, config.clients, config.seed


def prepare(
    config: RunConfig, tell: Callable[[str], None] = lambda text: None, like: Prepared | None = None
) -> Prepared:
    """Loads the data, deals it, builds the network, checks that the method can prune it, and chooses the engine.

    Args:
        config: The configuration.
        tell: Is told, in a line, of what takes seconds.
        like: A run to take data and shares from, where both are to have the same.

    Raises:
        ConfigError: Something does not fit; all of it at once.
    """
    problems = []
    if config.cohort is not None and config.cohort > config.clients:
        problems.append(f"cohort: must be at most clients ({config.clients}), got {config.cohort}")
    try:
        examples = like.examples if like and like.config.data == config.data else config.data.load()
    except ValueError as error:
        raise ConfigError([*problems, f"data: {error}"]) from error
    channels, *_ = examples.shape
    for key, values in (("mean", config.data.mean), ("std", config.data.std)):
        if len(values) not in (1, channels):
            problems.append(f"data.{key}: must have 1 value or one a channel ({channels}), got {len(values)}")
    shares = None
    try:
        if like and _dealing(like.config) == _dealing(config):
            shares = like.shares
        else:
            shares = config.split.deal(examples.labels, config.partition, config.clients, config.seed)
        problems += exactness_problems([len(share) for share in shares.clients])
        if config.pretraining.epochs and len(shares.public) < 2:
            problems.append(
                f"pretraining.epochs: must be 0 where the server holds fewer than 2 public examples "
                f"(split.public), got {config.pretraining.epochs}"
            )
        if len(shares.public) < config.method.public:
            problems.append(
                f"split.public: must be at least {config.method.public}, since {config.method.name} so set asks the "
                f"server itself, got {len(shares.public)}"
            )
    except ValueError as error:
        problems.append(f"clients: {error}")

    build = partial(_build, config, examples)
    try:
        config = within_budget(config, examples, tell)
    except ConfigError as error:
        problems += error.problems
    # What a method says of its schedule is true of a run whose settings change if it is true of all of them.
    first, *later = (x.method.remarks(config.rounds) for x in config.phases)
    model, remarks = config.model, tuple(x for x in first if all(x in told for told in later))
    network = reference = build(model)
    try:
        model = config.method.network(config.model, build)
        network = network if model == config.model else build(model)
        config.method.check(network, seeds.stream(config.seed, "method"))
        remarks += tuple(dict.fromkeys(x for y in config.phases for x in _checked(y)))
        if config.devices is not None:
            problems += memory_problems(config.devices, needed_bytes(config, network), config.training.batch)
    except ValueError as error:
        problems.append(f"method: {error}")
    unknown = sorted(set(config.engine.dense_above) - {layer.name for layer in network.layers})
    if unknown:
        problems.append(f"engine.dense_above: must name weights of the network, got {', '.join(unknown)}")
    if not config.method.folds and config.aggregation.name != "mean":
        problems.append(
            f"aggregation: {config.method.name} aggregates in a way of its own, so it must be mean, "
            f"got {config.aggregation.name}"
        )
    least = config.aggregation.least()
    if config.method.folds and config.method.keeps_back and least > 1:
        problems.append(
            f"aggregation: clients of {config.method.name} so set may keep their weights back, and fewer than the "
            f"{least} that {config.aggregation.name} needs may be left, so it must be mean; or have the method keep "
            f"nothing back"
        )
    if least > (clients := min(config.cohort or config.clients, config.clients)):
        problems.append(
            f"aggregation: {config.aggregation.name} so set needs {least} clients a round, got {clients}; raise "
            f"cohort or clients, or set aggregation=mean"
        )
    if config.engine.name == "sparse" and config.fleet.gpus:
        problems.append(f"engine: {CPU_ONLY}; set engine=auto or engine=dense, or fleet.gpus=0")
    elif config.engine.name == "sparse":
        try:
            kernels(torch.float32)
        except EngineUnavailable as error:
            problems.append(f"engine: {error}; or set engine=dense")
        if config.method.target < 1 and (lacking := unable(network)):
            problems.append(f"engine: {lacking}; set engine=auto or engine=dense")
    for key, training in (("training", config.training), ("pretraining", config.pretraining)):
        if training.extrusion is not None:
            problems.append(f"{key}.extrusion: is for the method to order, so it must be none")
    if problems or shares is None:
        raise ConfigError(problems)
    for remark in remarks:
        tell(f"note: {remark}")
    choice = choose(config.engine, network, config.training.batch, config.method.target, tell, config.fleet.gpus)
    config = config.model_copy(update={"engine": choice.engine})
    return Prepared(config, examples, shares, model, network, reference, choice)
