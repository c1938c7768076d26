"""Stands between methods and a fleet: counts every byte in each direction, and believes no upload unread."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from fedtiny.payload.codec import NOTHING, Held, encode_order, held_after
from fedtiny.payload.fleet import ClientFailed, Fleet
from fedtiny.payload.messages import SERVER, Order, Reply, Upload, name_of, when
from fedtiny.payload.packing import Layout, Packing
from fedtiny.payload.upload import decode_upload
from fedtiny.sparse.cost import forward_flops
from fedtiny.sparse.network import Network
from fedtiny.stopwatch import Stopwatch

__all__ = ["Ledger", "Traffic"]


@dataclass(slots=True)
class Traffic:
    """What crossed the network, and what should have.

    Attributes:
        upload_bytes: From clients to the server, all together.
        download_bytes: From the server to clients, all together.
        measuring_flops: Modelled forward FLOPs of orders without training, client by client.
        dropped: Client -> why nothing of it was used: it failed, or its upload was refused.
        refused: How many of these sent something.
    """

    upload_bytes: int = 0
    download_bytes: int = 0
    measuring_flops: dict[int, float] = field(default_factory=dict)
    dropped: dict[int, str] = field(default_factory=dict)
    refused: int = 0

    @property
    def measuring_flops_max(self) -> float:
        """Those of the busiest client."""
        return max(self.measuring_flops.values(), default=0.0)


@dataclass(slots=True)
class Ledger:
    """Encodes what a real server would send to each client, counts it, and reads what comes back.

    It remembers what each client still holds: see `codec`. What the server asks of itself crosses no network.

    Attributes:
        fleet: The fleet that does the work.
        layout: The network's names and shapes.
        network: The network, for what measuring it costs.
        examples_most: More training examples than this no client can have.
        quorum: Share of the clients asked that must answer, in (0, 1].
        tell: Is told of the first client that fails, with its traceback; the rest are counted.
        traffic: What crossed since the last `take`.
        held: What each client still holds of earlier orders.
        watch: Tells waiting for replies from the rest.
    """

    fleet: Fleet
    layout: Layout
    network: Network
    examples_most: int
    quorum: float = 1.0
    tell: Callable[[str], None] = lambda text: None
    traffic: Traffic = field(default_factory=Traffic)
    held: dict[int, Held] = field(default_factory=dict)
    watch: Stopwatch = field(default_factory=Stopwatch)
    _told: bool = False

    @property
    def size(self) -> int:
        """Clients in the federation."""
        return self.fleet.size

    def ask(self, order: Order, clients: Sequence[int]) -> Iterator[Upload]:
        """Has every client carry out `order`, counts the messages both ways, and leaves out whoever fails.

        Raises:
            ClientFailed: Fewer than the quorum answered.
        """
        self._count_downloads(order, clients)
        flops = forward_flops(self.network, order.mask) * order.development if order.training is None else 0.0
        packing = Packing.of(self.layout, order.mask)
        answered, reasons = 0, []
        for reply in self._replies(order, clients):
            try:
                upload = self._read(reply, order, packing)
            except ValueError as error:
                reasons.append(f"{name_of(reply.client)} {error}")
                continue
            answered += 1
            if upload.client != SERVER:
                self.traffic.upload_bytes += upload.sent_bytes
                measured = self.traffic.measuring_flops
                measured[upload.client] = measured.get(upload.client, 0.0) + flops * upload.examples
            yield upload
        needed = max(1, math.ceil(self.quorum * len(clients) - 1e-9))
        if answered < needed:
            more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
            raise ClientFailed(
                f"{answered} of {len(clients)} answered {when(order.round)}, fewer than the quorum of {needed}: "
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

    def _read(self, reply: Reply, order: Order, packing: Packing) -> Upload:
        """The upload, or a ValueError that says why there is none."""
        reason, place = reply.failure, reply.traceback
        if reply.buffer is not None:
            try:
                return decode_upload(reply.buffer, order, packing, reply.client, self.examples_most)
            except ValueError as error:
                reason = f"was refused: {error}"
                self.traffic.upload_bytes += len(reply.buffer) if reply.client != SERVER else 0
                self.traffic.refused += 1
        self.traffic.dropped[reply.client] = reason
        self.held.pop(reply.client, None)  # Nobody knows what it still has.
        if not self._told:
            self._told = True
            self.tell(f"{name_of(reply.client)} {reason} ({when(order.round)})" + (f"\n{place}" if place else ""))
        raise ValueError(reason)

    def _count_downloads(self, order: Order, clients: Sequence[int]) -> None:
        # Clients that hold the same get the same message: it is encoded once.
        lengths: dict[int, int] = {}
        after: dict[int, Held] = {}
        for client in clients:
            if client == SERVER:
                continue
            held = self.held.get(client, NOTHING)
            if id(held) not in lengths:
                lengths[id(held)] = len(encode_order(order, held))
                after[id(held)] = held_after(order, held)
            self.traffic.download_bytes += lengths[id(held)]
            self.held[client] = after[id(held)]
