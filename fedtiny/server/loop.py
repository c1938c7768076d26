"""The driver: one federated round after the other."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fedtiny.methods.base import Method, ServerState
from fedtiny.payload.messages import SERVER, Order, Upload
from fedtiny.payload.probe import TopGradients
from fedtiny.payload.training import Training
from fedtiny.server.cohort import cohort
from fedtiny.server.evaluate import Evaluation, Examiner
from fedtiny.server.fingerprint import fingerprint
from fedtiny.server.ledger import Ledger
from fedtiny.sparse.cost import Accounting, activation_bytes, memory_bytes, training_flops
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Network, Weights
from fedtiny.track.record import RoundRecord

__all__ = ["Plan", "pretrain", "rounds"]

ACCOUNTINGS: tuple[Accounting, ...] = ("rigl", "fedrts")


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
    """

    method: Method
    training: Training
    rounds: int
    cohort: int | None
    evaluate_every: int
    seed: int


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
        clients = cohort(ledger.size, plan.cohort, plan.seed, r)
        order = plan.method.order(network, state, plan.training.at(r, plan.rounds))
        tally = _Tally(network, order)
        state = plan.method.absorb(network, state, tally.watch(ledger.ask(order, clients)))
        evaluated = (r + 1) % plan.evaluate_every == 0 or r + 1 == plan.rounds
        examined = test.examine(state.weights, state.mask) if evaluated else None
        checked = validation.examine(state.weights, state.mask) if evaluated else None
        traffic = ledger.take()
        yield (
            state,
            RoundRecord(
                round=r,
                seconds=time.perf_counter() - start,
                clients=tuple(clients),
                train_loss=tally.loss / tally.examples,
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
                memory_bytes=tally.memory_bytes,
                activation_bytes=tally.activation_bytes,
                weights_sha256=fingerprint(state.weights, state.mask),
            ),
            examined,
        )


class _Tally:
    """Watches uploads go by, and adds up what a record wants of them."""

    def __init__(self, network: Network, order: Order) -> None:
        assert order.training is not None
        self._network, self._order, self._training = network, order, order.training
        self._top = {
            name: count
            for probe in order.probes
            if isinstance(probe, TopGradients)
            for name, count in probe.count.items()
        }
        self.loss, self.examples, self.dense_flops = 0.0, 0, 0.0
        self.flops: dict[str, float] = dict.fromkeys(ACCOUNTINGS, 0.0)
        self.memory_bytes = memory_bytes(network, order.mask, self._training.momentum > 0, self._top)
        self.activation_bytes = activation_bytes(network, self._training.batch)

    def watch(self, uploads: Iterable[Upload]) -> Iterator[Upload]:
        for upload in uploads:
            self.loss += upload.loss * upload.examples
            self.examples += upload.examples
            trained = upload.examples * self._training.epochs
            self.dense_flops = max(self.dense_flops, training_flops(self._network, None, trained))
            for accounting in ACCOUNTINGS:
                flops = training_flops(
                    self._network,
                    self._order.mask,
                    examples=trained,
                    dense=self._top,
                    dense_examples=min(upload.examples, self._training.batch),
                    accounting=accounting,
                )
                self.flops[accounting] = max(self.flops[accounting], flops)
            yield upload


def density_all(network: Network, mask: Mask | None) -> float:
    """Parameters that are not pruned / all parameters."""
    pruned = mask.size - mask.kept if mask else 0
    return 1 - pruned / network.parameters


def _exchanged(before: Mask | None, after: Mask | None) -> dict[str, int]:
    if before is None or after is None or before is after:
        return {}
    moved = {name: int((keep & ~before.keep[name]).sum()) for name, keep in after.keep.items()}
    return {name: count for name, count in moved.items() if count}
