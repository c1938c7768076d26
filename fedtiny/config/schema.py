"""One run, completely."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, TypeVar

from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo, field_validator

from fedtiny.config.budget import Budget
from fedtiny.data.datasets import AnyData, Digits
from fedtiny.data.partition import Dirichlet, Partition
from fedtiny.data.split import Split
from fedtiny.fleets import AnyFleet, RayActors
from fedtiny.methods import AnyMethod, FedTiny
from fedtiny.methods.aggregation import AnyAggregation, Mean
from fedtiny.methods.base import Method
from fedtiny.methods.phases import Phase
from fedtiny.models.zoo import AnyModel, ResNet8
from fedtiny.payload.training import Training
from fedtiny.server.devices import Devices
from fedtiny.sparse.engine.choose import Engine
from fedtiny.sparse.network import Prunable
from fedtiny.value import Below, Value

__all__ = ["TRAINING_CHANGES", "Change", "Pretraining", "RunConfig", "Tracking"]

TRAINING_CHANGES = ("clip_norm", "epochs", "lr", "momentum", "weight_decay")
"""Of local training, what may change from one round to the next; of a method, `Method.changes`."""


T = TypeVar("T", Method, Training)

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


class Change(Value):
    """Settings that are others from a round on; those that are not named stay as they were."""

    training: dict[str, int | float | None] = Field(default_factory=dict)
    """clip_norm, epochs, lr, momentum, weight_decay of local training."""
    method: dict[str, int | float] = Field(default_factory=dict)
    """adjust_every, stop_round, fraction of a method that has them."""


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
    from_round: dict[int, Change] = Field(default_factory=dict)
    """Round -> what changes from that round on (0-based: 20 is after 20 rounds): `{20: {training: {lr: 0.01}}}`."""
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

    @field_validator("from_round", mode="before")
    @classmethod
    def _dropped(cls, told: object) -> object:
        """Null for none at all, or for a round of an earlier preset, leaves it out."""
        if told is None:
            return {}
        return {start: x for start, x in told.items() if x is not None} if isinstance(told, Mapping) else told

    @field_validator("from_round")
    @classmethod
    def _changes(cls, told: dict[int, Change], before: ValidationInfo) -> dict[int, Change]:
        known = before.data
        if not {"rounds", "method", "training"} <= set(known):  # they are refused themselves
            return told
        for start, change in told.items():
            if not 0 < start < known["rounds"]:
                rule = f"must be a round from 1 to the last, {known['rounds'] - 1}; raise rounds, or set it to null"
                raise Below(str(start), rule, change.model_dump(exclude_unset=True))
        _phases(known["method"], known["training"], told)
        return dict(sorted(told.items()))

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The method and the local training from round 0 on, then from each round on at which they change."""
        return _phases(self.method, self.training, self.from_round)

    def shared_with(self, kind: type[Method]) -> "RunConfig":
        """The same run, but that later rounds change nothing of the method that another one has not."""
        kept = {
            start: Change(training=x.training, method={k: v for k, v in x.method.items() if k in kind.changes()})
            for start, x in self.from_round.items()
        }
        return self.model_copy(update={"from_round": kept})


def _phases(method: Method, training: Training, changes: Mapping[int, Change]) -> tuple[Phase, ...]:
    phases = [Phase(0, method, training)]
    for start, change in sorted(changes.items()):
        method = _changed(method, change.method, method.changes(), f"{start}.method")
        training = _changed(training, change.training, TRAINING_CHANGES, f"{start}.training")
        phases.append(Phase(start, method, training))
    return tuple(phases)


def _changed(value: T, change: Mapping[str, object], known: Sequence[str], where: str) -> T:
    for key, x in change.items():
        if key not in known:
            rule = f"cannot change on the way; what can is {', '.join(known) or 'nothing that this method has'}"
            raise Below(f"{where}.{key}", rule, x)
    try:
        return type(value).model_validate({**value.model_dump(), **change})
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else ""
        message = first["msg"].removeprefix("Value error, ")
        raise Below(f"{where}.{key}".rstrip("."), f"{message[0].lower()}{message[1:]}", first["input"]) from None
