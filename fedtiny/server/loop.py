"""The driver: one federated round after the other."""

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fedtiny.methods.aggregation import AnyAggregation
from fedtiny.methods.base import Method, ServerState
from fedtiny.payload.fleet import ClientFailed
from fedtiny.payload.messages import SERVER, Order, Upload, when
from fedtiny.payload.training import Training
from fedtiny.server.cohort import cohort
from fedtiny.server.devices import Outcome
from fedtiny.server.effort import Effort
from fedtiny.server.evaluate import Evaluation, Examiner
from fedtiny.server.fingerprint import fingerprint
from fedtiny.server.ledger import Ledger
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Network, Weights
from fedtiny.track.record import RoundRecord

__all__ = ["Plan", "pretrain", "rounds"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What the driver needs to know of a run.

    Attributes:
        method: The pruning method.
        training: Local training.
        rounds: Rounds to make.
        cohort: Clients a round; None is all of them.
        evaluate_every: Rounds from one evaluation to the next; the last round is always evaluated.
        seed: The run's seed.
        aggregation: How trained weights are aggregated.
    """

    method: Method
    training: Training
    rounds: int
    cohort: int | None
    evaluate_every: int
    seed: int
    aggregation: AnyAggregation


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
        order = plan.method.order(network, state, plan.training.at(r, plan.rounds))
        outcome = _simulated(plan, ledger, order)
        clients = cohort(ledger.size, plan.cohort, plan.seed, r) if outcome is None else list(outcome.accepted)
        tally = _Tally(Effort.of(network, order))
        with ledger.watch.on("fold"):
            uploads = tally.watch(ledger.ask(order, clients))
            state = plan.method.absorb(network, state, uploads, plan.aggregation.fold())
        evaluated = (r + 1) % plan.evaluate_every == 0 or r + 1 == plan.rounds
        with ledger.watch.on("evaluate"):
            examined = test.examine(state.weights, state.mask) if evaluated else None
            checked = validation.examine(state.weights, state.mask) if evaluated else None
        traffic = ledger.take()
        yield (
            state,
            RoundRecord(
                round=r,
                seconds=time.perf_counter() - start,
                clients=tuple(clients),
                dropped={str(client): reason for client, reason in sorted(traffic.dropped.items())},
                refused=traffic.refused,
                train_loss=tally.loss,
                test_loss=examined.loss if examined else None,
                test_accuracy=examined.accuracy if examined else None,
                validation_loss=checked.loss if checked else None,
                validation_accuracy=checked.accuracy if checked else None,
                density=state.mask.density if state.mask else 1.0,
                density_all=density_all(network, state.mask),
                layer_densities=state.mask.densities() if state.mask else dict.fromkeys(network.prunable, 1.0),
                exchanged=_exchanged(before.mask, state.mask),
                upload_bytes=traffic.upload_bytes,
                download_bytes=traffic.download_bytes,
                flops=tally.flops,
                dense_flops=tally.dense_flops,
                memory_bytes=tally.effort.memory_bytes,
                activation_bytes=tally.effort.activation_bytes,
                late=() if outcome is None else outcome.late,
                surplus=() if outcome is None else outcome.surplus,
                simulated_seconds=None if outcome is None else outcome.seconds,
                joules=None if outcome is None else outcome.joules,
                own_training=_own(order.training, plan.training.at(r, plan.rounds)),
                weights_sha256=fingerprint(state.weights, state.mask),
            ),
            examined,
        )


def _simulated(plan: Plan, ledger: Ledger, order: Order) -> Outcome | None:
    """Who takes part, if clients are devices in the field; those whose answer comes too late get the order too."""
    people = ledger.population
    if people is None:
        return None
    wanted = min(plan.cohort or ledger.size, ledger.size)
    outcome = ledger.play(order, people.asked(wanted, order.round), wanted, people.devices.deadline_s)
    if not outcome.accepted:
        raise ClientFailed(
            f"no client can answer {when(order.round)} within devices.deadline_s ({people.devices.deadline_s:g} s); "
            f"raise it, or ask for less"
        )
    ledger.deliver(order, [*outcome.late, *outcome.surplus])
    return outcome


class _Tally:
    """Watches uploads go by, and adds up what a record wants of them."""

    def __init__(self, effort: Effort) -> None:
        self.effort = effort
        self._losses: list[float] = []
        self._examples, self._most = 0, 0

    @property
    def loss(self) -> float:
        """Mean over clients, weighted by examples."""
        return math.fsum(self._losses) / self._examples

    @property
    def flops(self) -> dict[str, float]:
        """Of the busiest client, by accounting."""
        return self.effort.flops(self._most)

    @property
    def dense_flops(self) -> float:
        """What the busiest client would make of them without pruning."""
        return self.effort.dense_flops(self._most)

    def watch(self, uploads: Iterable[Upload]) -> Iterator[Upload]:
        for upload in uploads:
            self._losses.append(upload.loss * upload.examples)
            self._examples += upload.examples
            self._most = max(self._most, upload.examples)
            yield upload


def density_all(network: Network, mask: Mask | None) -> float:
    """Parameters that are not pruned / all parameters."""
    pruned = mask.size - mask.kept if mask else 0
    return 1 - pruned / network.parameters


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
