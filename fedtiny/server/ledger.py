"""A fleet that counts: every byte, in each direction, and the largest device."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from fedtiny.payload.codec import NOTHING, Held, Layout, encode_order, held_after
from fedtiny.payload.fleet import ClientFailed, Fleet
from fedtiny.payload.messages import SERVER, Order, Upload
from fedtiny.payload.probe import Gradients
from fedtiny.sparse.cost import forward_flops
from fedtiny.sparse.network import Network

__all__ = ["Ledger", "Traffic"]


def _check_finite(upload: Upload, order: Order) -> None:
    """Numbers that are none would spread to every client with the next round, and empty layers of the mask."""
    who = "the server" if upload.client == SERVER else f"client {upload.client}"
    when = "before the first round" if order.round < 0 else f"in round {order.round + 1}"
    tensors = dict(upload.weights or {})
    for answer in upload.answers:
        if isinstance(answer, Gradients):
            tensors |= {f"gradient of {name}": values for name, (_, values) in answer.layers.items()}
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ClientFailed(f"{who} diverged {when}: {name} is not finite; lower training.lr or pretraining.lr")


@dataclass(slots=True)
class Traffic:
    """What crossed the network.

    Attributes:
        upload_bytes: From clients to the server, all together.
        download_bytes: From the server to clients, all together.
        measuring_flops: Modelled forward FLOPs of orders without training, client by client.
    """

    upload_bytes: int = 0
    download_bytes: int = 0
    measuring_flops: dict[int, float] = field(default_factory=dict)

    @property
    def measuring_flops_max(self) -> float:
        """Those of the busiest client."""
        return max(self.measuring_flops.values(), default=0.0)


@dataclass(slots=True)
class Ledger:
    """Stands before a fleet, encodes what a real server would send to each client, and counts it.

    It remembers what each client still holds: see `codec`. What the server asks of itself crosses no network.

    Attributes:
        fleet: The fleet that does the work.
        layout: The network's names and shapes.
        network: The network, for what measuring it costs.
        traffic: What crossed since the last `take`.
        held: What each client still holds of earlier orders.
    """

    fleet: Fleet
    layout: Layout
    network: Network
    traffic: Traffic = field(default_factory=Traffic)
    held: dict[int, Held] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Clients in the federation."""
        return self.fleet.size

    def ask(self, order: Order, clients: Sequence[int]) -> Iterator[Upload]:
        """Has every client carry out `order`, and counts the messages both ways.

        Raises:
            ClientFailed: A client raised, or sent numbers that are not finite.
        """
        self._count_downloads(order, clients)
        flops = forward_flops(self.network, order.mask) * order.development if order.training is None else 0.0
        for upload in self.fleet.ask(order, clients):
            _check_finite(upload, order)
            if upload.client != SERVER:
                self.traffic.upload_bytes += upload.sent_bytes
                measured = self.traffic.measuring_flops
                measured[upload.client] = measured.get(upload.client, 0.0) + flops * upload.examples
            yield upload

    def take(self) -> Traffic:
        """The traffic since the last call."""
        traffic, self.traffic = self.traffic, Traffic()
        return traffic

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
