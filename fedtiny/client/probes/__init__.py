"""One callback a probe: `callback_for` finds the one that answers it."""

from functools import singledispatch

from fedtiny.client.probes.accuracy import CountCorrect
from fedtiny.client.probes.answering import Answering
from fedtiny.client.probes.batch_norm import CollectStatistics
from fedtiny.client.probes.loss import SumLoss
from fedtiny.client.probes.top_gradients import CollectTopGradients
from fedtiny.payload.probes import BatchNormStatistics, LocalAccuracy, LocalLoss, TopGradients
from fedtiny.sparse.mask import Mask

__all__ = ["Answering", "callback_for"]


@singledispatch
def callback_for(probe: object, mask: Mask | None) -> Answering:
    """The callback that answers `probe` about a network under `mask`."""
    raise NotImplementedError(f"no callback answers {probe!r}")


@callback_for.register
def _(probe: BatchNormStatistics, mask: Mask | None) -> Answering:
    return CollectStatistics()


@callback_for.register
def _(probe: LocalAccuracy, mask: Mask | None) -> Answering:
    return CountCorrect()


@callback_for.register
def _(probe: LocalLoss, mask: Mask | None) -> Answering:
    return SumLoss()


@callback_for.register
def _(probe: TopGradients, mask: Mask | None) -> Answering:
    assert mask is not None
    return CollectTopGradients(probe, mask)
