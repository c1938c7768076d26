"""What a method asks before the first round, listened to on its way to the clients."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from fedtiny.payload.messages import SERVER, Order, Upload
from fedtiny.server.effort import ACCOUNTINGS, Effort
from fedtiny.server.ledger import Ledger
from fedtiny.sparse.network import Network

__all__ = ["Asked", "Listening"]


@dataclass(frozen=True, slots=True)
class Asked:
    """One question, to everyone it was put to.

    Attributes:
        effort: What it costs.
        examples: Client (or `SERVER`) -> its training examples.
    """

    effort: Effort
    examples: dict[int, int]


@dataclass(slots=True)
class Listening:
    """A federation that hands all orders on to a ledger, and remembers what they cost.

    Attributes:
        ledger: Where orders go.
        network: The network.
        asked: What was asked, in order.
    """

    ledger: Ledger
    network: Network
    asked: list[Asked] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Clients in the federation."""
        return self.ledger.size

    def ask(self, order: Order, clients: Sequence[int]) -> Iterator[Upload]:
        """Hands the order on."""
        told = Asked(Effort.of(self.network, order), {})
        self.asked.append(told)
        for upload in self.ledger.ask(order, clients):
            told.examples[upload.client] = upload.examples
            yield upload

    @property
    def flops(self) -> dict[str, float]:
        """Of the busiest client, by accounting; what the server asks itself is no client's."""
        sums: dict[str, dict[int, float]] = {x: {} for x in ACCOUNTINGS}
        for asked in self.asked:
            for client, examples in asked.examples.items():
                for x, flops in asked.effort.flops(examples).items():
                    if client != SERVER:
                        sums[x][client] = sums[x].get(client, 0.0) + flops
        return {x: max(each.values(), default=0.0) for x, each in sums.items()}
