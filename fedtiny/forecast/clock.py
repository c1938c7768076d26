"""Seconds of work on this machine, estimated from two measured training steps."""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

from fedtiny.forecast.rehearsal import Rehearsal
from fedtiny.payload.messages import SERVER
from fedtiny.prepare import Prepared
from fedtiny.server.effort import Effort
from fedtiny.sparse.cost import forward_flops
from fedtiny.sparse.engine.measure import Stepper
from fedtiny.sparse.engine.timing import seconds_of

__all__ = ["Clock", "Seconds", "dense_step", "makespan"]


@dataclass(frozen=True, slots=True)
class Seconds:
    """Where a run's wall-clock time will go, start-up apart.

    Attributes:
        pretraining: Of the server's network.
        begin: Clients' work before the first round.
        rounds: Clients' work in rounds, as many at once as there are places.
        evaluation: On validation and test examples.
        server: Encoding, decoding, aggregating, as it was measured in the rehearsal.
    """

    pretraining: float
    begin: float
    rounds: float
    evaluation: float
    server: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.pretraining + self.begin + self.rounds + self.evaluation + self.server


@dataclass(frozen=True, slots=True)
class Clock:
    """Seconds of a step as a line over its FLOPs, through a sparse step and a dense one.

    Attributes:
        batch: Examples of the steps that were measured.
        dense_seconds: Of a dense step.
        dense_flops: Of one example of it (`rigl`).
        sparse_seconds: Of a step at the target density; on dense kernels as long as a dense one.
        sparse_flops: Of one example of it.
    """

    batch: int
    dense_seconds: float
    dense_flops: float
    sparse_seconds: float
    sparse_flops: float

    @classmethod
    def of(cls, prepared: Prepared, rehearsal: Rehearsal, dense_seconds: float) -> "Clock":
        """The clock of a run; the sparse step is the one that the engine was chosen by."""
        choice, dense = prepared.choice, 3 * forward_flops(prepared.network, None)
        efforts = [x.effort for x in rehearsal.rounds]
        on_engine = choice.engine.name == "sparse" and choice.cost is not None
        return cls(
            batch=prepared.config.training.batch,
            dense_seconds=dense_seconds,
            dense_flops=dense,
            sparse_seconds=choice.cost.sparse_seconds if on_engine and choice.cost else dense_seconds,
            sparse_flops=min(3 * effort.forward for effort in efforts) if on_engine else dense,
        )

    def example(self, flops: float) -> float:
        """Seconds of one example in a step of so many FLOPs an example."""
        if self.dense_flops <= self.sparse_flops:
            return self.dense_seconds / self.batch
        share = min(1.0, max(0.0, (flops - self.sparse_flops) / (self.dense_flops - self.sparse_flops)))
        return (self.sparse_seconds + share * (self.dense_seconds - self.sparse_seconds)) / self.batch

    def client(self, effort: Effort, examples: int) -> float:
        """Seconds of one client's work; a forward pass takes a third of a step."""
        step = 3 * effort.forward
        once, always = effort.once["rigl"], effort.always["rigl"]
        usual = self.example(step + always)
        last = (self.example(step + always + once) - usual) * min(examples, effort.batch)
        return (usual * effort.epochs * examples + last) * effort.passes / 3

    def run(self, prepared: Prepared, rehearsal: Rehearsal) -> Seconds:
        """Of a whole run."""
        config, examples = prepared.config, rehearsal.examples
        asked = min(config.cohort or config.clients, config.clients)
        places = config.fleet.places(asked)
        dense = self.example(self.dense_flops)
        looked_at = len(prepared.examples.test_labels) + len(prepared.shares.validation)
        last = rehearsal.rounds[-1].effort
        evaluations = -(-config.rounds // config.evaluate_every)
        return Seconds(
            pretraining=config.pretraining.epochs * examples[SERVER] * dense,
            begin=sum(
                makespan((self.client(x.effort, n) for n in x.examples.values()), places) for x in rehearsal.asked
            ),
            rounds=sum(
                makespan((self.client(x.effort, examples[k]) for k in x.clients), places) for x in rehearsal.rounds
            ),
            evaluation=evaluations * looked_at * self.example(3 * last.forward) / 3,
            server=sum(x.server_seconds for x in rehearsal.rounds),
        )


def makespan(seconds: Iterable[float], places: int) -> float:
    """When the last place is done, if each takes the longest work left as soon as it is free."""
    busy = [0.0] * places
    for each in sorted(seconds, reverse=True):
        heapq.heappush(busy, heapq.heappop(busy) + each)
    return max(busy)


def dense_step(prepared: Prepared) -> float:
    """Seconds of a dense training step on one thread, measured now."""
    network, batch = prepared.network, prepared.config.training.batch
    return seconds_of(Stepper(network.module, network.input_shape, batch, None).train, 0.3)
