"""Stands between methods and a fleet: counts every byte in each direction, and believes no upload unread."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields

from fedtiny.payload.codec import NOTHING, Held, encode_order, held_after
from fedtiny.payload.fleet import ClientFailed, Fleet
from fedtiny.payload.messages import SERVER, Order, Reply, Upload, name_of, when
from fedtiny.payload.packing import Layout
from fedtiny.payload.upload import decode_upload
from fedtiny.server.asked import Asked
from fedtiny.server.cohort import Population
from fedtiny.server.devices import Outcome, play
from fedtiny.server.holdings import Holdings
from fedtiny.sparse.network import Network
from fedtiny.stopwatch import Stopwatch

__all__ = ["Ledger", "Traffic"]


@dataclass(slots=True)
class Traffic:
    """What crossed the network, and what should have.

    Attributes:
        upload_bytes: From clients to the server, all together.
        download_bytes: From the server to clients, all together.
        measuring_flops: Modelled FLOPs of orders without training, client by client.
        dropped: Client -> why nothing of it was used: it failed, or its upload was refused.
        refused: How many of these sent something.
        retried: Tries of clients beyond the first, whether they worked or not.
        simulated_seconds: What it would have taken on the devices that `devices` describes; 0 if it describes none.
        joules: Energy of all those devices; likewise.
    """

    upload_bytes: int = 0
    download_bytes: int = 0
    measuring_flops: dict[int, float] = field(default_factory=dict)
    dropped: dict[int, str] = field(default_factory=dict)
    refused: int = 0
    retried: int = 0
    simulated_seconds: float = 0.0
    joules: float = 0.0

    @property
    def measuring_flops_max(self) -> float:
        """Those of the busiest client."""
        return max(self.measuring_flops.values(), default=0.0)


@dataclass(frozen=True, slots=True)
class _Downloads:
    """The messages that bring one order to clients: who holds the same and gets the same has one, encoded once.

    A simulated round wants their lengths to know who is late, and again when they are sent.

    Attributes:
        order: The order. It lives as long as this does, and so do those of its parts that keys name by their ids.
        messages: What a client holds and gets -> bytes, what it holds then, and what it held, to live as long.
    """

    order: Order
    messages: dict[tuple[object, ...], tuple[int, Held, Held]] = field(default_factory=dict)

    def are_of(self, order: Order) -> bool:
        """Whether that is the order, or the same for fewer clients: see `Order.to`."""
        same = (getattr(order, x.name) is getattr(self.order, x.name) for x in fields(Order) if x.name != "personal")
        return all(same) and all(self.order.personal.get(k) is own for k, own in order.personal.items())

    def of(self, client: int, held: Held) -> tuple[int, Held]:
        """The bytes of a client's message, and what it holds then."""
        own = self.order.personal.get(client)
        # A limit's value is as long as any other.
        key = held.key if own is None else (held.key, id(own.weights), id(own.mask), own.limit is not None)
        if key not in self.messages:
            plain = self.order.of(client)
            self.messages[key] = len(encode_order(plain, held)), held_after(plain, held), held
        length, after, _ = self.messages[key]
        return length, after


@dataclass(slots=True)
class Ledger:
    """Encodes what a real server would send to each client, counts it, and reads what comes back.

    It remembers what each client still holds: see `codec`. What the server asks of itself crosses no network.

    Attributes:
        fleet: The fleet that does the work.
        layout: The network's names and shapes.
        network: The network, for what measuring it costs.
        examples_most: More training examples than this no client can have.
        quorum: Share of the answers wanted that must come, in (0, 1].
        tell: Is told of the first client that fails, with its traceback; the rest are counted.
        traffic: What crossed since the last `take`.
        held: What each client still holds of earlier orders.
        population: The devices that clients are; None simulates none.
        watch: Tells waiting for replies from the rest.
    """

    fleet: Fleet
    layout: Layout
    network: Network
    examples_most: int
    quorum: float = 1.0
    tell: Callable[[str], None] = lambda text: None
    population: Population | None = None
    watch: Stopwatch = field(default_factory=Stopwatch)
    traffic: Traffic = field(default_factory=Traffic)
    held: Holdings = field(default_factory=Holdings)
    _told: bool = False
    _encoded: _Downloads | None = None

    @property
    def size(self) -> int:
        """Clients in the federation."""
        return self.fleet.size

    def ask(self, order: Order, clients: Sequence[int], wanted: int | None = None) -> Iterator[Upload]:
        """Has every client carry out `order`, counts the messages both ways, and leaves out whoever fails.

        Args:
            order: What to do.
            clients: Ids in [0, size), or `SERVER`.
            wanted: Answers that the quorum is a share of, where it would have been more clients but that some are
                late; None is these clients.

        Raises:
            ClientFailed: Fewer than the quorum answered.
        """
        asked = Asked(order, self.network, self.layout)
        if self.population is not None and order.training is None:  # a round of training is played before it is asked
            self.simulate(self.play(order, clients, len(clients), None))
        self.deliver(order, clients)
        self._encoded = None
        answered, reasons = 0, []
        for reply in self._replies(order, clients):
            try:
                upload = self._read(reply, asked)
            except ValueError as error:
                reasons.append(f"{name_of(reply.client)} {error}")
                continue
            answered += 1
            if upload.client != SERVER:
                self.traffic.upload_bytes += upload.sent_bytes
                measured = self.traffic.measuring_flops
                flops = 0.0 if order.training else asked.effort(upload.client).flops(upload.examples)["rigl"]
                measured[upload.client] = measured.get(upload.client, 0.0) + flops
            yield upload
        wanted = len(clients) if wanted is None else wanted
        needed = max(1, math.ceil(self.quorum * wanted - 1e-9))
        if answered < needed:
            if late := wanted - len(clients):
                reasons.insert(0, f"{late} too late for devices.deadline_s")
            more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
            raise ClientFailed(
                f"{answered} of {wanted} answered {when(order.round)}, fewer than the quorum of {needed}: "
                f"{'; '.join(reasons[:3])}{more}"
            )

    def take(self) -> Traffic:
        """The traffic since the last call."""
        traffic, self.traffic = self.traffic, Traffic()
        return traffic

    def _replies(self, order: Order, clients: Sequence[int]) -> Iterator[Reply]:
        replies = self.fleet.send(order, clients)
        while True:
            with self.watch.on("wait"):
                reply = next(replies, None)
            if reply is None:
                return
            yield reply

    def _read(self, reply: Reply, asked: Asked) -> Upload:
        """The upload, or a ValueError that says why there is none."""
        order, packing = asked.of(reply.client), asked.packing(reply.client)
        reason, place = reply.failure, reply.traceback
        self.traffic.retried += reply.tries - 1
        if reply.buffer is not None and reply.tries > 1:
            self._tell(reply.client, f"{reason}; it answered when it was tried again", order, place)
            place = ""
        elif reply.buffer is not None and reply.lost:
            self._tell(reply.client, f"{reply.lost}; it answered when it was tried alone", order, "")
        if reply.buffer is not None:
            try:
                return decode_upload(reply.buffer, order, packing, reply.client, self.examples_most)
            except ValueError as error:
                reason = f"was refused: {error}"
                self.traffic.upload_bytes += len(reply.buffer) if reply.client != SERVER else 0
                self.traffic.refused += 1
        self.traffic.dropped[reply.client] = reason
        self.held.pop(reply.client, None)  # Nobody knows what it still has.
        self._tell(reply.client, reason, order, place)
        raise ValueError(reason)

    def _tell(self, client: int, reason: str, order: Order, place: str) -> None:
        if not self._told:
            self._told = True
            self.tell(f"{name_of(client)} {reason} ({when(order.round)})" + (f"\n{place}" if place else ""))

    def play(self, order: Order, clients: Sequence[int], wanted: int, deadline_s: float | None) -> Outcome:
        """Who of the clients would answer `order` first, on the devices they are."""
        assert self.population is not None
        downloads = {client: length for client, (length, _) in self._downloads(order, clients).items()}
        asked = Asked(order, self.network, self.layout)
        return play(self.population.tasks(asked, downloads), wanted, deadline_s)

    def simulate(self, outcome: Outcome) -> None:
        """Adds what a simulated exchange took."""
        self.traffic.simulated_seconds += outcome.seconds
        self.traffic.joules += outcome.joules

    def deliver(self, order: Order, clients: Sequence[int]) -> None:
        """Counts the download of each client, whether it will answer or not."""
        for client, (length, after) in self._downloads(order, clients).items():
            self.traffic.download_bytes += length
            self.held[client] = after

    def _downloads(self, order: Order, clients: Sequence[int]) -> dict[int, tuple[int, Held]]:
        """The bytes that bring `order` to each client, and what it holds then."""
        if self._encoded is None or not self._encoded.are_of(order):
            self._encoded = _Downloads(order)
        encoded = self._encoded
        return {k: encoded.of(k, self.held.get(k, NOTHING)) for k in clients if k != SERVER}
