"""What a round came to: the one model of the server, or one a client."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fedtiny.methods.base import Method, ServerState
from fedtiny.payload.messages import Personal
from fedtiny.server.evaluate import Evaluation, Examiner
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Network

__all__ = ["ClassCounts", "Models", "density_all"]

ClassCounts = Sequence[Sequence[int]]
"""Training examples of each class, one row a client."""


@dataclass(frozen=True, slots=True, eq=False)
class Models:
    """The models to be judged: by their densities, and by their accuracy.

    Attributes:
        network: The network.
        state: The server's state.
        reference: The network that a dense run trains; the method may have a smaller one of its own.
        own: Client -> its model; empty where all share the server's.
    """

    network: Network
    state: ServerState
    reference: Network
    own: Mapping[int, Personal] = field(default_factory=dict)

    @classmethod
    def of(cls, method: Method, network: Network, state: ServerState, reference: Network) -> Self:
        """Those that a method trained."""
        return cls(network, state, reference, method.models(network, state))

    @property
    def masks(self) -> list[Mask | None]:
        """One a client, in the order of their ids, or the one that all share."""
        return [self.own[k].mask for k in sorted(self.own)] if self.own else [self.state.mask]

    @property
    def density(self) -> float:
        """Kept / prunable weights: the mean over the models."""
        return _mean([1.0 if mask is None else mask.density for mask in self.masks])

    @property
    def density_all(self) -> float:
        """Parameters that are not pruned / all parameters of the reference: the mean over the models."""
        return _mean([density_all(self.network, mask, self.reference) for mask in self.masks])

    @property
    def layer_densities(self) -> dict[str, float]:
        """Density of each prunable layer: the mean over the models."""
        dense = dict.fromkeys(self.network.prunable, 1.0)
        told = [dense if mask is None else mask.densities() for mask in self.masks]
        return {name: _mean([densities[name] for densities in told]) for name in told[0]}

    def examine(self, examiner: Examiner, counts: ClassCounts) -> Evaluation | None:
        """How good they are: the server's model on all examples, or each client's on what that client would meet.

        A client's own model is examined on the examples of the classes that the client trained on, and each class
        weighs as it did in training: that is the expectation of its accuracy, and of its loss, on data of the client's
        own distribution. The mean over clients is weighted by their training examples. A class that there is no example
        of does not count. Of the confusion matrix the expectation is rounded.

        Args:
            examiner: The examples.
            counts: Training examples of each class, one row a client.
        """
        if not self.own:
            return examiner.examine(self.state.weights, self.state.mask)
        if not len(examiner.labels):
            return None
        alike: dict[tuple[int, int], list[int]] = {}  # clients whose models are the same
        for client in sorted(self.own):
            own = self.own[client]
            alike.setdefault((id(own.weights), id(own.mask)), []).append(client)
        confusion = torch.zeros(examiner.classes, examiner.classes, dtype=torch.float64)
        loss = 0.0
        for clients in alike.values():
            # Examples of each class, of all these clients: n_k p_k(c), summed over k.
            weight = torch.tensor([counts[k] for k in clients], dtype=torch.float64).sum(0)
            lines, losses = _by_class(examiner, self.own[clients[0]], weight)
            confusion += weight[:, None] * lines
            loss += float(weight @ losses)
        total = float(confusion.sum())
        if not total:
            return None
        return Evaluation(loss / total, float(confusion.diag().sum()) / total, confusion.round().to(torch.int64))


def density_all(network: Network, mask: Mask | None, reference: Network) -> float:
    """Parameters of `network` that are not pruned / all parameters of the network that a dense run trains."""
    pruned = mask.size - mask.kept if mask else 0
    return (network.parameters - pruned) / reference.parameters


def _mean(numbers: Sequence[float]) -> float:
    return math.fsum(numbers) / len(numbers)


def _by_class(examiner: Examiner, own: Personal, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Row c is the share of class c's examples that is taken for each class, and c's mean loss; 0 where unneeded."""
    chosen = np.isin(examiner.labels, weight.nonzero().flatten().numpy())
    confusion = torch.zeros(examiner.classes, examiner.classes, dtype=torch.float64)
    losses = torch.zeros(examiner.classes, dtype=torch.float64)
    if not chosen.any():
        return confusion, losses
    some = replace(examiner, images=examiner.images[chosen], labels=examiner.labels[chosen])
    scores, truth = some.scores(own.masked, own.mask)
    told = functional.cross_entropy(scores, truth, reduction="none").double()
    confusion.index_put_((truth, scores.argmax(1)), torch.ones(len(truth), dtype=torch.float64), accumulate=True)
    losses.index_add_(0, truth, told)
    examples = confusion.sum(1).clamp(min=1)
    return confusion / examples[:, None], losses / examples
