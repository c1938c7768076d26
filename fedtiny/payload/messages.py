"""The messages: what the server asks of a client, what crosses back, and what the server reads in it."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from torch import Tensor

from fedtiny.payload.adjustment import Adjustment
from fedtiny.payload.packing import Packing
from fedtiny.payload.probes import Answer, Demand, Look, Probe, Sizes
from fedtiny.payload.training import Training
from fedtiny.payload.values import EXACT, AnyCodec
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Weights

__all__ = ["SERVER", "Order", "Personal", "Reply", "Upload", "name_of", "when"]

SERVER = -1
"""The server itself, playing a client on its public examples: nothing it does crosses the network."""


def name_of(client: int) -> str:
    """How messages to people call a client."""
    return "the server" if client == SERVER else f"client {client}"


def when(round: int) -> str:
    """How messages to people call a round: they count from 1."""
    return "before the first round" if round < 0 else f"in round {round + 1}"


@dataclass(frozen=True, slots=True, eq=False)
class Personal:
    """What an order holds for one client alone.

    Attributes:
        weights: Parameters and buffers by name, CPU float32. They need not be masked, so that clients can share them:
            shared, they are pickled once.
        mask: Weights to keep; None is all.
        limit: Last-epoch training loss that the client must get below to send its weights; None is no limit.
    """

    weights: Weights
    mask: Mask | None
    limit: float | None = None

    @property
    def masked(self) -> Weights:
        """The weights under the mask; what it prunes is exactly 0."""
        keep = {} if self.mask is None else self.mask.keep
        return {name: x.masked_fill(~keep[name], 0.0) if name in keep else x for name, x in self.weights.items()}


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
        adjust: How the client moves its mask between two local epochs; None leaves it. Such an order has no probes.
        signs: Adjusted layer -> int8 of its shape, the direction of the global weight's last change: -1, 0 or 1. The
            guided part of an adjustment first drops weights that trained against it, and grows ones that would go
            along. None says nothing of directions.
        holdout: Share of the local examples that such probes see instead, and that are never trained on, in [0, 1).
        codec: How the weights of an upload are written.
        limit: Last-epoch training loss that a client must get below to send its weights; None is no limit.
        personal: Client -> what is for it alone, in place of `weights`, `mask` and `limit`.
    """

    round: int
    weights: Weights
    mask: Mask | None
    training: Training | None
    probes: tuple[Probe, ...] = ()
    development: float = 1.0
    adjust: Adjustment | None = None
    signs: Mapping[str, Tensor] | None = None
    holdout: float = 0.0
    codec: AnyCodec = EXACT
    limit: float | None = None
    personal: Mapping[int, Personal] = field(default_factory=dict)

    def of(self, client: int) -> Self:
        """The order as one client gets it: nothing in it is personal any more."""
        if not self.personal:
            return self
        own = self.personal.get(client)
        if own is None:
            return replace(self, personal={})
        ours = own.weights is self.weights and own.mask is self.mask
        weights = self.weights if ours else own.masked
        return replace(self, weights=weights, mask=own.mask, limit=own.limit, personal={})

    def to(self, clients: Iterable[int]) -> Self:
        """The order without what is for others than these clients."""
        if not self.personal:
            return self
        return replace(self, personal={k: self.personal[k] for k in clients if k in self.personal})

    def held_out(self, examples: int) -> int:
        """Examples of a client with so many that are held out: at least one if any, but two are left to train on."""
        if self.holdout == 0:
            return 0
        return max(0, min(max(1, round(self.holdout * examples)), examples - 2))

    def seen_most(self, examples: int) -> int:
        """Examples that a client may have measured on, at most, which claims so many that are not held out."""
        if self.holdout == 0:
            return examples
        return math.ceil((examples + 0.5) / (1 - self.holdout)) - examples

    def sends(self, loss: float) -> bool:
        """Whether a client sends its weights whose last epoch had this mean loss."""
        return self.limit is None or loss < self.limit

    def demands(self, sizes: Sizes) -> list[Demand]:
        """What it asks of a device beyond plain training.

        Args:
            sizes: Name -> number of weights of each layer.
        """
        own = []
        if self.adjust is not None:
            assert self.mask is not None
            own = [self.adjust.demand(sizes, {name: int(self.mask.keep[name].sum()) for name in self.adjust.count})]
        return own + [probe.demand(sizes) for probe in self.probes]

    @property
    def look(self) -> Look:
        """What its probes look at where nothing is trained; all of them at the same."""
        looks = {probe.look for probe in self.probes} or {Look()}
        assert len(looks) == 1, looks
        return looks.pop()


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back of one client: the bytes of an upload, not yet read, or why there are none.

    Attributes:
        client: Id in [0, clients), or `SERVER`.
        buffer: The encoded upload; None if the client failed.
        spent: Seconds of the client's work by kind: `load`, `train`, `pack`.
        failure: Why it failed, in a line; where another try worked, why the first did not.
        traceback: Where, if it raised: of the first try that did.
        tries: How often it was tried.
        lost: What became of a process that had it in hand beside others, if one is gone: nobody is blamed for it.
    """

    client: int
    buffer: bytes | memoryview | None
    spent: Mapping[str, float] = field(default_factory=dict)
    failure: str = ""
    traceback: str = ""
    tries: int = 1
    lost: str = ""

    @property
    def seconds(self) -> float:
        """Wall-clock time of the client's work."""
        return sum(self.spent.values())


@dataclass(frozen=True, slots=True, eq=False)
class Upload:
    """What one client sends back.

    Attributes:
        client: Id in [0, clients).
        examples: Local examples, but for those held out: the client's share in a weighted mean.
        loss: Mean training loss of the last local epoch; NaN without training.
        values: (packing.size,) float32, the trained weights packed; None without training, or if they were kept back.
        packing: How they are packed.
        answers: One entry for each probe of the order, in its order.
        sent_bytes: Encoded size of this message, measured and not estimated.
        mask: The client's own mask if it was asked to move it; None where that of the order holds.
    """

    client: int
    examples: int
    loss: float
    values: Tensor | None
    packing: Packing
    answers: tuple[Answer, ...] = ()
    sent_bytes: int = 0
    mask: Mask | None = None

    @property
    def weights(self) -> Weights | None:
        """The trained weights by name, pruned ones exactly 0; None if there are none."""
        return None if self.values is None else self.packing.unpack(self.values)
