"""The driver: one federated round after the other."""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from fedtiny.methods.aggregation import AnyAggregation
from fedtiny.methods.base import Method, ServerState
from fedtiny.methods.phases import Phase, phase
from fedtiny.payload.fleet import ClientFailed
from fedtiny.payload.messages import SERVER, Order, Upload, when
from fedtiny.payload.training import Training
from fedtiny.server.asked import Asked
from fedtiny.server.cohort import cohort
from fedtiny.server.devices import Outcome
from fedtiny.server.effort import ACCOUNTINGS, Effort
from fedtiny.server.evaluate import Evaluation, Examiner
from fedtiny.server.fingerprint import fingerprint
from fedtiny.server.ledger import Ledger
from fedtiny.server.models import ClassCounts, Models
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Network, Weights
from fedtiny.track.record import RoundRecord

__all__ = ["Plan", "pretrain", "rounds"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What the driver needs to know of a run.

    Attributes:
        phases: The pruning method and local training, from round to round; at least one.
        rounds: Rounds to make.
        cohort: Clients a round; None is all of them.
        evaluate_every: Rounds from one evaluation to the next; the last round is always evaluated.
        seed: The run's seed.
        aggregation: How trained weights are aggregated.
        reference: The network that a dense run trains; the method may have a smaller one of its own.
        class_counts: Training examples of each class, one row a client: what a model of a client's own is judged by.
    """

    phases: Sequence[Phase]
    rounds: int
    cohort: int | None
    evaluate_every: int
    seed: int
    aggregation: AnyAggregation
    reference: Network
    class_counts: ClassCounts = ()

    def at(self, round: int) -> tuple[Method, Training]:
        """The method of a round, and its local training at this place of the learning rate's schedule."""
        now = phase(self.phases, round)
        return now.method, now.training.at(round, self.rounds)


def pretrain(weights: Weights, ledger: Ledger, training: Training) -> Weights:
    """Trains dense on the server's public examples; nothing crosses the network."""
    (upload,) = ledger.ask(Order(-1, weights, None, training), [SERVER])
    assert upload.weights is not None
    return upload.weights


def rounds(
    plan: Plan, network: Network, ledger: Ledger, state: ServerState, test: Examiner, validation: Examiner
) -> Iterator[tuple[ServerState, RoundRecord, Evaluation | None]]:
    """Makes the rounds that are left, and yields after each the state, its record and the test evaluation."""
    while state.round < plan.rounds:
        start, before, r = time.perf_counter(), state, state.round
        method, training = plan.at(r)
        order = method.order(network, state, training)
        outcome = _simulated(plan, ledger, order)
        clients = cohort(ledger.size, plan.cohort, plan.seed, r) if outcome is None else list(outcome.accepted)
        wanted = len(clients) if outcome is None else min(_wanted(plan, ledger), outcome.asked)
        order = order.to(clients)
        dense = replace(order, mask=None, probes=(), adjust=None, signs=None, personal={})
        tally = _Tally(Asked(order, network, ledger.layout), Effort.of(plan.reference, dense))
        with ledger.watch.on("fold"):
            uploads = tally.watch(ledger.ask(order, clients, wanted))
            state = method.absorb(network, state, _enough(plan, uploads, r, method.folds), plan.aggregation.fold())
        evaluated = (r + 1) % plan.evaluate_every == 0 or r + 1 == plan.rounds
        models = Models.of(method, network, state, plan.reference)
        with ledger.watch.on("evaluate"):
            examined = models.examine(test, plan.class_counts) if evaluated else None
            checked = models.examine(validation, plan.class_counts) if evaluated else None
        traffic = ledger.take()
        yield (
            state,
            RoundRecord(
                round=r,
                seconds=time.perf_counter() - start,
                clients=tuple(clients),
                dropped={str(client): reason for client, reason in sorted(traffic.dropped.items())},
                refused=traffic.refused,
                retried=traffic.retried,
                train_loss=tally.loss,
                test_loss=examined.loss if examined else None,
                test_accuracy=examined.accuracy if examined else None,
                validation_loss=checked.loss if checked else None,
                validation_accuracy=checked.accuracy if checked else None,
                density=models.density,
                density_all=models.density_all,
                layer_densities=models.layer_densities,
                exchanged=_exchanged(before.mask, state.mask),
                upload_bytes=traffic.upload_bytes,
                download_bytes=traffic.download_bytes,
                flops=tally.flops,
                dense_flops=tally.dense_flops,
                memory_bytes=tally.memory_bytes,
                activation_bytes=tally.activation_bytes,
                late=() if outcome is None else outcome.late,
                surplus=() if outcome is None else outcome.surplus,
                simulated_seconds=None if outcome is None else outcome.seconds,
                joules=None if outcome is None else outcome.joules,
                own_training=_own(order.training, training),
                weights_sha256=fingerprint(state.weights, state.mask),
                personal=bool(models.own),
            ),
            examined,
        )


def _simulated(plan: Plan, ledger: Ledger, order: Order) -> Outcome | None:
    """Who takes part, if clients are devices in the field; those whose answer comes too late get the order too."""
    people = ledger.population
    if people is None:
        return None
    wanted = _wanted(plan, ledger)
    outcome = ledger.play(order, people.asked(wanted, order.round), wanted, people.devices.deadline_s)
    if not outcome.accepted:
        raise ClientFailed(
            f"no client can answer {when(order.round)} within devices.deadline_s ({people.devices.deadline_s:g} s); "
            f"raise it, or ask for less"
        )
    ledger.deliver(order, [*outcome.late, *outcome.surplus])
    return outcome


def _wanted(plan: Plan, ledger: Ledger) -> int:
    return min(plan.cohort or ledger.size, ledger.size)


def _enough(plan: Plan, uploads: Iterable[Upload], round: int, folds: bool) -> Iterator[Upload]:
    """The uploads, unless fewer bring weights than the aggregation takes to mean anything."""
    sent = 0
    for upload in uploads:
        sent += upload.values is not None
        yield upload
    least = plan.aggregation.least()
    if folds and 0 < sent < least:  # of none at all nothing is aggregated
        raise ClientFailed(
            f"{sent} clients sent weights {when(round)}, but {plan.aggregation.name} so set needs {least}; raise "
            f"cohort, devices.over_selection or devices.deadline_s, or set aggregation=mean"
        )


class _Tally:
    """Watches uploads go by, and adds up what a record wants of them."""

    def __init__(self, asked: Asked, dense: Effort) -> None:
        self._asked, self._dense = asked, dense
        self._losses: list[float] = []
        self._examples = 0
        self._busiest: dict[int, tuple[Effort, int]] = {}  # of those who make the same effort, by its id

    @property
    def loss(self) -> float:
        """Mean over clients, weighted by examples."""
        return math.fsum(self._losses) / self._examples

    @property
    def flops(self) -> dict[str, float]:
        """Of the busiest client, by accounting."""
        told = [effort.flops(most) for effort, most in self._busiest.values()]
        return {x: max(flops[x] for flops in told) for x in ACCOUNTINGS}

    @property
    def dense_flops(self) -> float:
        """What the busiest client would make of them without pruning."""
        return max(self._dense.dense_flops(most) for _, most in self._busiest.values())

    @property
    def memory_bytes(self) -> int:
        """Of the client that needs most."""
        return max(effort.memory_bytes for effort, _ in self._busiest.values())

    @property
    def activation_bytes(self) -> int:
        """Of the client that needs most."""
        return max(effort.activation_bytes for effort, _ in self._busiest.values())

    def watch(self, uploads: Iterable[Upload]) -> Iterator[Upload]:
        for upload in uploads:
            self._losses.append(upload.loss * upload.examples)
            self._examples += upload.examples
            effort = self._asked.effort(upload.client)
            _, most = self._busiest.get(id(effort), (effort, 0))
            self._busiest[id(effort)] = effort, max(most, upload.examples)
            yield upload


def _own(told: Training | None, given: Training) -> dict[str, object]:
    """What the method made of the run's local training."""
    if told is None or told == given:
        return {}
    plain = given.model_dump(mode="json")
    return {key: x for key, x in told.model_dump(mode="json").items() if key not in plain or plain[key] != x}


def _exchanged(before: Mask | None, after: Mask | None) -> dict[str, int]:
    if before is None or after is None or before is after:
        return {}
    moved = {name: int((keep & ~before.keep[name]).sum()) for name, keep in after.keep.items()}
    return {name: count for name, count in moved.items() if count}
