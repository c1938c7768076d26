"""Scores in, exact and deterministic masks out.

Ties go to the lower flat index everywhere, so equal inputs give equal masks on every device.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from fedtiny.sparse.mask import Mask

__all__ = ["drop_then_grow", "keep_top", "keep_top_overall", "smallest_kept", "top_indices"]


def top_indices(scores: Tensor, count: int) -> Tensor:
    """The flat indices of the `count` highest scores, in ascending order; ties go to the lower index.

    Args:
        scores: (N,) float, without NaN.
        count: 0 <= count <= N.

    Returns:
        (count,) int64.
    """
    if count == 0:
        return torch.empty(0, dtype=torch.int64)
    threshold = scores.kthvalue(len(scores) - count + 1).values  # topk would sort them: ten times slower
    above = scores > threshold
    ties = (scores == threshold).nonzero().flatten()[: count - int(above.sum())]
    above[ties] = True
    return above.nonzero().flatten()


def keep_top(scores: Mapping[str, Tensor], counts: Mapping[str, int]) -> Mask:
    """Keeps exactly `counts[name]` highest-scored weights of each parameter.

    Args:
        scores: Parameter name -> float tensor of any shape; higher is kept first.
        counts: Parameter name -> weights to keep, 0 <= counts[name] <= scores[name].numel().

    Raises:
        ValueError: A count is out of range or a score is NaN; names the parameter and the value.
    """
    keep = {}
    for name, score in scores.items():
        count = counts[name]
        if not 0 <= count <= score.numel():
            raise ValueError(f"count must be in [0, {score.numel()}] for {name}, got {count}")
        if score.isnan().any():
            raise ValueError(f"scores must be numbers, got NaN for {name}")
        flat = torch.zeros(score.numel(), dtype=torch.bool)
        flat[top_indices(score.flatten(), count)] = True
        keep[name] = flat.view(score.shape)
    return Mask(keep)


def keep_top_overall(scores: Mapping[str, Tensor], count: int) -> Mask:
    """Keeps exactly `count` weights: the best one of each parameter, then the highest-scored of all together.

    Without the first, a parameter whose scores are all low would be emptied, and nothing would pass it any more.

    Args:
        scores: Parameter name -> float tensor of any shape; higher is kept first, whatever parameter it is of.
        count: Weights to keep, from the number of parameters to that of weights; ties go to the parameter named first.

    Raises:
        ValueError: The count is out of range or a score is NaN; names the value, or the parameter.
    """
    sizes = [score.numel() for score in scores.values()]
    if not len(sizes) <= count <= sum(sizes):
        raise ValueError(f"count must be in [{len(sizes)}, {sum(sizes)}], got {count}")
    firsts = []
    for name, score in scores.items():
        if score.isnan().any():
            raise ValueError(f"scores must be numbers, got NaN for {name}")
        first = score.flatten().clone()
        first[first.argmax()] = torch.inf
        firsts.append(first)
    flat = torch.zeros(sum(sizes), dtype=torch.bool)
    flat[top_indices(torch.cat(firsts), count)] = True
    parts = zip(scores.items(), flat.split(sizes), strict=True)
    return Mask({name: part.view(score.shape) for (name, score), part in parts})


def smallest_kept(keep: Tensor, weight: Tensor, count: int) -> Tensor:
    """The `count` kept weights of smallest magnitude: those that `drop_then_grow` would drop.

    Args:
        keep: Bool tensor of any shape; True is kept.
        weight: Float, same shape.
        count: At most the kept weights.

    Returns:
        Bool tensor of the same shape.
    """
    kept = keep.flatten().clone()
    sizes = weight.flatten().abs().masked_fill(~kept, -1.0)
    kept[top_indices(sizes, int(kept.sum()) - count)] = False
    return kept.view(keep.shape)


def drop_then_grow(keep: Tensor, weight: Tensor, gradient: Tensor, count: int) -> Tensor:
    """Exchanges the smallest kept weights of one layer for the pruned ones with the largest gradients.

    Both sets are chosen from the mask as it was, so they are disjoint: a weight just dropped cannot grow back at
    once, and one just grown cannot be dropped. Fewer than `count` are exchanged where fewer are pruned or have a
    gradient, and one kept weight at least stays, so a layer is never emptied.

    Args:
        keep: Bool tensor of any shape; True is kept.
        weight: Float, same shape: |weight| chooses what is dropped.
        gradient: Float, same shape: |gradient| chooses what grows; 0 never grows.
        count: Weights to exchange at most, >= 0.

    Returns:
        The new mask, with as many kept as before.
    """
    kept, live = keep.flatten(), int(keep.sum())
    growth = gradient.flatten().abs().masked_fill(kept, 0.0)
    exchanged = max(0, min(count, int((growth > 0).sum()), live - 1))
    loss = weight.flatten().abs().masked_fill(~kept, -1.0)
    new = torch.zeros_like(kept)
    new[top_indices(loss, live - exchanged)] = True
    new[top_indices(growth, exchanged)] = True
    return new.view(keep.shape)
