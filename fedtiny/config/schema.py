"""One run, completely."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from fedtiny.config.budget import Budget
from fedtiny.data.datasets import AnyData, Digits
from fedtiny.data.partition import Dirichlet, Partition
from fedtiny.data.split import Split
from fedtiny.fleets import AnyFleet, RayActors
from fedtiny.methods import AnyMethod, FedTiny
from fedtiny.methods.aggregation import AnyAggregation, Mean
from fedtiny.models.zoo import AnyModel, ResNet8
from fedtiny.payload.training import Training
from fedtiny.server.devices import Devices
from fedtiny.sparse.engine.choose import Engine
from fedtiny.sparse.network import Prunable
from fedtiny.value import Value

__all__ = ["Pretraining", "RunConfig", "Tracking"]


# `engine: auto` is as good as `engine: {name: auto}`.
_BY_NAME = BeforeValidator(lambda x: {"name": x} if isinstance(x, str) else x)


class Pretraining(Training):
    """Training of the dense network on the server's public examples, before anything is pruned."""

    epochs: Annotated[int, Field(ge=0)] = 20
    """Passes over the public examples; 0 starts from the initial weights."""
    lr_schedule: Literal["constant"] = "constant"
    """Learning rate: constant, since there are no rounds yet."""


class Tracking(Value):
    """Where numbers go besides the run's folder."""

    # YAML 1.1 reads a bare `off` as false.
    wandb: Annotated[Literal["auto", "offline", "off"], BeforeValidator(lambda x: "off" if x is False else x)] = "auto"
    """Weights & Biases: auto is online if you are logged in and offline otherwise; off leaves it out."""
    project: str = "fedtiny"
    """The project in Weights & Biases."""
    group: str | None = None
    """The group in Weights & Biases."""
    tensorboard: bool = False
    """Writes tensorboard/ in the run's folder, for `tensorboard --logdir`."""
    csv: bool = False
    """Writes csv/metrics.csv in the run's folder: a line a round."""


class RunConfig(Value):
    """One run, completely: equal configurations give equal weights on the same machine."""

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")] = "run"
    """What the run is called: its folder is runs/NAME-TIME unless out=DIR is given."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Root of every random stream."""
    rounds: Annotated[int, Field(ge=1)] = 300
    """Federated rounds."""
    clients: Annotated[int, Field(ge=1)] = 10
    """Simulated devices in the federation."""
    cohort: Annotated[int, Field(ge=1)] | None = None
    """Clients that take part in a round, drawn anew each time; none is all of them."""
    quorum: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of the clients asked that must answer; with fewer the run stops, and can be resumed."""
    evaluate_every: Annotated[int, Field(ge=1)] = 1
    """Rounds from one evaluation to the next; the last round is always evaluated."""
    data: AnyData = Digits()
    """The data set."""
    split: Split = Split()
    """Training examples that do not go to clients."""
    partition: Partition = Dirichlet()
    """How training examples are dealt to clients."""
    model: AnyModel = ResNet8()
    """The network."""
    prunable: Prunable = Prunable()
    """Layers that may be pruned."""
    pretraining: Pretraining = Pretraining()
    """Training on the server's public examples, before anything is pruned."""
    training: Training = Training()
    """Local training."""
    method: AnyMethod = FedTiny()
    """The federated pruning method."""
    budget: Budget | None = None
    """What a device has room for: chooses method.density, and model.width where need be; none leaves them alone."""
    aggregation: Annotated[AnyAggregation, _BY_NAME] = Mean()
    """How the trained weights of a round's clients become one."""
    engine: Annotated[Engine, _BY_NAME] = Engine()
    """`engine: auto`, `engine: sparse` and `engine: dense` will do."""
    fleet: AnyFleet = RayActors()
    """Where clients run."""
    devices: Devices | None = None
    """The devices that clients would be in the field, for simulated time and energy; none simulates none."""
    tracking: Tracking = Tracking()
    """Where numbers go besides the run's folder."""
