"""FedTiny's first module: adaptive batch-norm selection among coarsely pruned candidates.

Every candidate is a mask over the same pretrained weights. A pruned network's batch-norm statistics are wrong for it,
so its loss says little of it until they are measured anew, on the data of all clients.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import torch

from fedtiny.methods.average import WeightedMean
from fedtiny.payload.fleet import Federation
from fedtiny.payload.messages import Order, Upload
from fedtiny.payload.probes import BatchNormStatistics, LocalLoss, Loss, Moments, Statistics
from fedtiny.sparse.mask import Mask
from fedtiny.sparse.network import Weights

__all__ = ["Aggregation", "adapt", "aggregate_mean", "aggregate_pooled", "best", "candidate_loss", "vanilla"]

Aggregation = Literal["mean", "pooled"]


def aggregate_mean(shares: Sequence[tuple[int, Moments]]) -> Moments:
    """The paper's aggregation: mu = sum_k w_k mu_k and var = sum_k w_k var_k, with weights that sum to 1.

    It has no term for the spread of the clients' means, so under label skew it understates the variance.

    Args:
        shares: (weight, moments) of each client; weights are examples and need not sum to 1.
    """
    mean, var = WeightedMean(), WeightedMean()
    for weight, x in shares:
        mean.add(x.mean, weight)
        var.add(x.var, weight)
    return Moments(mean.result(), var.result(), sum(x.count for _, x in shares))


def aggregate_pooled(shares: Sequence[tuple[int, Moments]]) -> Moments:
    """The moments of all clients' values thrown together (law of total variance), unbiased.

    Exact for the first batch-norm layer. Deeper ones were measured behind each client's own batch statistics.

    Args:
        shares: (weight, moments) of each client; the counts of the moments decide, not the weights.
    """
    count = sum(x.count for _, x in shares)
    mean = torch.stack([x.mean.double() * x.count for _, x in shares]).sum(0) / count
    squares = torch.stack([x.var.double() * (x.count - 1) + x.count * (x.mean.double() - mean) ** 2 for _, x in shares])
    return Moments(mean.float(), (squares.sum(0) / max(1, count - 1)).float(), count)


_AGGREGATES = {"mean": aggregate_mean, "pooled": aggregate_pooled}


def with_statistics(weights: Weights, uploads: Iterable[Upload], aggregation: Aggregation) -> Weights:
    """`weights` with the clients' aggregated batch-norm statistics in place of their own."""
    shares: dict[str, list[tuple[int, Moments]]] = {}
    for upload in sorted(uploads, key=lambda upload: upload.client):
        (answer,) = upload.answers
        assert isinstance(answer, Statistics)
        for name, moments in answer.layers.items():
            shares.setdefault(name, []).append((upload.examples, moments))
    result = dict(weights)
    for name, layer in shares.items():
        moments = _AGGREGATES[aggregation](layer)
        result[f"{name}.running_mean"] = moments.mean
        result[f"{name}.running_var"] = moments.var
    return result


def candidate_loss(answers: Iterable[Loss]) -> float:
    """sum_k L_k / sum_k n_k: the loss of a mean development example of the federation.

    A loss that is no number within bounds counts as the worst of the others, so that no client alone can veto a
    candidate; and a candidate is hopeless (NaN) unless more than half of the clients have such a number, so that none
    alone can vouch for one.
    """
    answers = list(answers)
    sound = [answer for answer in answers if not answer.hopeless]
    if 2 * len(sound) <= len(answers):
        return math.nan
    worst = max(answer.total / answer.examples for answer in sound)
    totals = (worst * answer.examples if answer.hopeless else answer.total for answer in answers)
    return math.fsum(totals) / sum(answer.examples for answer in answers)


def best(losses: Sequence[float]) -> int:
    """The candidate of least loss; the first of equals. One whose loss is not a number comes last."""
    return min(range(len(losses)), key=lambda c: (math.isnan(losses[c]), losses[c], c))


def adapt(
    pretrained: Weights, mask: Mask, fleet: Federation, aggregation: Aggregation, development: float
) -> tuple[Weights, float]:
    """Measures one candidate on every client.

    1. Server to clients: the candidate. Clients to server: batch-norm statistics of their development data.
    2. Server to clients: the aggregated statistics. Clients to server: the candidate's loss with them.

    Args:
        pretrained: The weights that all candidates share; not changed.
        mask: The candidate.
        fleet: All clients, each of which takes part.
        aggregation: How statistics are aggregated.
        development: Share of a client's training examples to measure on.

    Returns:
        The candidate's weights with their statistics, and its loss.
    """
    weights = _pruned(pretrained, mask)
    ask = Order(-1, weights, mask, None, (BatchNormStatistics(),), development)
    adapted = with_statistics(weights, fleet.ask(ask, range(fleet.size)), aggregation)
    return adapted, _federated_loss(adapted, mask, fleet, development)


def vanilla(pretrained: Weights, mask: Mask, fleet: Federation, development: float) -> tuple[Weights, float]:
    """Measures one candidate without adapting it: its batch-norm statistics are the unpruned network's.

    Args:
        pretrained: The weights that all candidates share; not changed.
        mask: The candidate.
        fleet: All clients, each of which takes part.
        development: Share of a client's training examples to measure on.

    Returns:
        The candidate's weights, and its loss.
    """
    weights = _pruned(pretrained, mask)
    return weights, _federated_loss(weights, mask, fleet, development)


def _pruned(pretrained: Weights, mask: Mask) -> Weights:
    weights = {name: tensor.clone() for name, tensor in pretrained.items()}
    mask.apply_(weights)
    return weights


def _federated_loss(weights: Weights, mask: Mask, fleet: Federation, development: float) -> float:
    ask = Order(-1, weights, mask, None, (LocalLoss(),), development)
    losses = [answer for upload in fleet.ask(ask, range(fleet.size)) for answer in upload.answers]
    return candidate_loss([loss for loss in losses if isinstance(loss, Loss)])
