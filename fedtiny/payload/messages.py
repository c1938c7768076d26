"""The two messages: what the server asks of a client, and what the client sends back."""

from dataclasses import dataclass

from fedtiny.payload.probe import Answer, Probe
from fedtiny.payload.training import Training
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Weights

__all__ = ["SERVER", "Order", "Upload"]

SERVER = -1
"""The server itself, playing a client on its public examples: nothing it does crosses the network."""


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """What the server sends to a client: start here, train like this, then tell me that.

    Attributes:
        round: 0-based federated round; -1 before the first.
        weights: Parameters and buffers by name, CPU float32, already masked.
        mask: Weights to keep during training; None trains densely.
        training: Local epochs, batch size, optimizer; None asks for probes without training.
        probes: Extra measurements, answered in this order.
        development: Share of the local examples that probes without training see, in (0, 1].
    """

    round: int
    weights: Weights
    mask: Mask | None
    training: Training | None
    probes: tuple[Probe, ...] = ()
    development: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Upload:
    """What one client sends back.

    Attributes:
        client: Id in [0, clients).
        examples: Local training examples: the client's share in a weighted mean.
        loss: Mean training loss of the last local epoch; NaN without training.
        weights: As in `Order`, after training; None without training.
        answers: One entry for each probe of the order, in its order.
        sent_bytes: Encoded size of this message, measured and not estimated.
        seconds: Wall-clock time of the local work.
    """

    client: int
    examples: int
    loss: float
    weights: Weights | None
    answers: tuple[Answer, ...] = ()
    sent_bytes: int = 0
    seconds: float = 0.0
