"""A run played by clients that compute nothing: the method, the driver and the ledger are the real ones.

Weights come back as they were sent and answers are made up, so bytes are those of real messages wherever their length
does not hang on which weights are kept. A round is played only where it may differ from the last one played: where the
order asks something else, or the method does not say that it rests. For those at rest, downloads are still looked
up client by client, since a cohort's clients may hold different masks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from fedtiny import seeds
from fedtiny.fleets.dry import DryFleet
from fedtiny.forecast.asked import Asked, Listening
from fedtiny.methods.base import ServerState
from fedtiny.payload.codec import NOTHING, Held, encode_order, heading, held_after
from fedtiny.payload.messages import Order
from fedtiny.payload.packing import Packing
from fedtiny.prepare import Prepared
from fedtiny.server.cohort import cohort
from fedtiny.server.effort import Effort
from fedtiny.server.evaluate import Examiner
from fedtiny.server.ledger import Ledger, Traffic
from fedtiny.server.loop import Plan, rounds
from fedtiny.sparse.engine.choose import Engine
from fedtiny.sparse.engine.resident import Resident
from fedtiny.track.record import RoundRecord

__all__ = ["Rehearsal", "Round", "rehearse"]


@dataclass(frozen=True, slots=True)
class Round:
    """What one round takes.

    Attributes:
        clients: Who takes part.
        upload_bytes: Of all of them.
        download_bytes: Of all of them.
        effort: What the order costs a client; of those that get orders of their own, one with most to do.
        state_bytes: What the server keeps from round to round.
        held_bytes: What it holds beside that while it aggregates.
        server_seconds: Its work on the messages, measured; of a round that was not played, that of its like.
        simulated_seconds: On the devices as described; None if none are.
        joules: Likewise.
        flops: Of the busiest client, by accounting; None where the round was not played: then `effort` tells.
    """

    clients: tuple[int, ...]
    upload_bytes: int
    download_bytes: int
    effort: Effort
    state_bytes: int
    held_bytes: int
    server_seconds: float
    simulated_seconds: float | None = None
    joules: float | None = None
    flops: dict[str, float] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Rehearsal:
    """A run that was played.

    Attributes:
        begin: What crossed the network before the first round.
        begin_flops: Of the busiest client before the first round, by accounting.
        asked: What was asked before the first round.
        rounds: Every round.
        played: How many of them were played; the rest are like one that was.
        state: The state after the last one played.
        examples: Client (or `SERVER`) -> its training examples.
    """

    begin: Traffic
    begin_flops: dict[str, float]
    asked: Sequence[Asked]
    rounds: Sequence[Round]
    played: int
    state: ServerState
    examples: dict[int, int]


def rehearse(prepared: Prepared) -> Rehearsal:
    """Plays a run.

    Raises:
        ClientFailed: A made-up answer is none that the server takes: a question's `blank` is wrong.
        ValueError: As in the method's `begin`.
    """
    config, network, method = prepared.config, prepared.network, prepared.config.method
    world, people = prepared.world, prepared.population
    fleet = DryFleet(world, config.clients)
    ledger = Ledger(fleet, world.layout, network, len(world.labels), config.quorum, population=people)
    listening = Listening(ledger, network)
    state = method.begin(network, listening, seeds.stream(config.seed, "method"))
    begin = ledger.take()
    plan = Plan(
        config.phases,
        config.rounds,
        config.cohort,
        config.evaluate_every,
        config.seed,
        config.aggregation,
        prepared.reference,
    )
    nobody = _nobody(prepared)
    found: list[Round] = []
    like: _Like | None = None
    played = 0
    while state.round < plan.rounds:
        r = state.round
        now, training = plan.at(r)
        order = now.order(network, state, training)
        if like is not None and people is None and now.rests(r) and like.asks_the_same(order):
            clients = cohort(ledger.size, plan.cohort, plan.seed, r)
            found.append(like.again(order, clients, ledger))
            state = replace(state, round=r + 1)
            continue
        played += 1
        before = state
        state, record, _ = next(rounds(plan, network, ledger, state, nobody, nobody))
        found.append(_round(prepared, order, record, before))
        like = _Like(order, found[-1])
    return Rehearsal(
        begin, listening.flops, listening.asked, found, played, state, {k: len(x) for k, x in world.shares.items()}
    )


@dataclass(slots=True)
class _Like:
    """A round that was played, and stands for those like it.

    Attributes:
        order: Its order.
        round: What it took.
    """

    order: Order
    round: Round
    _known: dict[tuple[object, ...], tuple[int, Held]] = field(default_factory=dict)

    def asks_the_same(self, order: Order) -> bool:
        """Whether the order is this round's but for its number and learning rate, and has the same mask."""
        mine, mask = self.order, order.mask
        if order.personal or mine.personal or order.signs or mine.signs:
            return False
        same = mask is mine.mask or (mask is not None and mask.equals(mine.mask))
        return same and _form(order) == _form(mine)

    def again(self, order: Order, clients: Sequence[int], ledger: Ledger) -> Round:
        """Such a round with these clients."""
        download = 0
        for client in clients:
            held = ledger.held.get(client, NOTHING)
            download += len(heading(order, held)) + self._weights_bytes(order, held)
            ledger.held[client] = held_after(order, held)
        upload = self.round.upload_bytes * len(clients) // len(self.round.clients)
        return replace(self.round, clients=tuple(clients), upload_bytes=upload, download_bytes=download, flops=None)

    def _weights_bytes(self, order: Order, held: Held) -> int:
        """Bytes of a download but for its heading; looked up where the same was asked before."""
        if held.key not in self._known:  # with what it is about, so that no other takes its address
            self._known[held.key] = len(encode_order(order, held)) - len(heading(order, held)), held
        return self._known[held.key][0]


def _form(order: Order) -> tuple[object, ...]:
    training = order.training
    plain = None if training is None else training.model_copy(update={"lr": 1.0})
    return order.probes, plain, order.adjust, order.holdout, order.codec, order.limit is None


def _round(prepared: Prepared, order: Order, record: RoundRecord, state: ServerState) -> Round:
    """What the round of this record took; the state is that before it."""
    config, network = prepared.config, prepared.network
    packed = Packing.of(prepared.layout, order.mask).size
    whole = sum(prepared.layout.sizes.values())
    answers = sum(probe.answer_bytes(prepared.layout.sizes) for probe in order.probes)
    count, whose = len(record.clients), record.clients if order.personal else record.clients[:1]
    return Round(
        clients=record.clients,
        upload_bytes=record.upload_bytes,
        download_bytes=record.download_bytes,
        effort=max((Effort.of(network, order.of(k)) for k in whose), key=lambda effort: effort.forward),
        flops=dict(record.flops),
        state_bytes=_state_bytes(state),
        held_bytes=config.method.held_bytes(whole, packed, count, config.aggregation) + answers * count,
        server_seconds=record.seconds,
        simulated_seconds=record.simulated_seconds,
        joules=record.joules,
    )


def _state_bytes(state: ServerState) -> int:
    tensors = [*state.weights.values(), *state.memory.values(), *(state.mask.keep.values() if state.mask else ())]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _nobody(prepared: Prepared) -> Examiner:
    """An examiner without examples: nothing is evaluated."""
    examples, none = prepared.examples, slice(0, 0)
    resident = Resident(prepared.network.module, Engine(name="dense"))
    classes = len(examples.classes)
    return Examiner(resident, examples.test_images[none], examples.test_labels[none], prepared.config.data, classes)
